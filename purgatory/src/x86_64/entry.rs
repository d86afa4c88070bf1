//! The way in and the way out.
//!
//! State at entry, from the hook at the dump kernel's 64-bit entry point (Linux `Documentation/arch/x86/boot.rst`,
//! "64-bit Boot Protocol"): long mode, paging on, RAM identity mapped, interrupts off, RSI = boot_params. The stack
//! is not known to be one, the GDT and IDT may be gone, and SSE faults until CR4.OSFXSR is set.
//!
//! The duties, in this order: keep every register for the kernel, put the bytes back that the hook displaced (so
//! that the way out is open from here on, whatever happens), relocate the image to where it lies, clear its zeroed
//! data, let the CPU run SSE, call `main`, put everything back, jump.

use core::arch::global_asm;
use lastwords_core::stub::{self, Handoff, Header};

/// The first bytes of the image. The build fills in the sizes, the tool the rest.
#[unsafe(link_section = ".header")]
#[used]
static HEADER: Header = Header {
    magic: stub::MAGIC,
    version: stub::VERSION,
    entry: 0,
    purgatory_entry: 0,
    file_size: 0,
    memory_size: 0,
    kernel_entry_back: 0,
    displaced: [0; stub::DISPLACED_LEN],
    reserved: [0; 3],
    parameters: [0; stub::PARAMETERS_LEN],
    own_sum: 0,
    handoff: Handoff::EMPTY,
};

/// CR0.EM and CR0.TS make SSE fault, CR0.MP belongs to a cleared EM; CR4.OSFXSR and OSXMMEXCPT allow it.
const CR0_EM_TS: u32 = 1 << 2 | 1 << 3;
const CR0_MP: u32 = 1 << 1;
const CR4_SSE: u32 = 1 << 9 | 1 << 10;

/// Length of an Elf64_Rela. All of ours are R_X86_64_RELATIVE: `*(base + r_offset) = base + r_addend`.
const RELA_LEN: u32 = 24;

global_asm!(
    ".pushsection .text.entry, \"ax\"",
    ".global lastwords_entry",
    "lastwords_entry:",
    "    mov [rip + saved_rsp], rsp",
    "    lea rsp, [rip + stack_top]",
    "    pushfq",
    "    cli",
    "    cld",
    "    push rax; push rcx; push rdx; push rbx; push rbp; push rsi; push rdi; push r8",
    "    push r9; push r10; push r11; push r12; push r13; push r14; push r15",
    "    mov rax, cr0; push rax",
    "    mov rax, cr4; push rax",
    "    mov [rip + saved_frame], rsp",

    // The way out.
    "    lea rbx, [rip + __image_start]",
    "    mov eax, [rbx + {kernel_entry_back}]",
    "    mov rdi, rbx",
    "    sub rdi, rax",
    "    mov [rip + kernel_entry], rdi",
    "    mov eax, [rbx + {displaced}]",
    "    mov [rdi], eax",
    "    mov al, [rbx + {displaced} + 4]",
    "    mov [rdi + 4], al",

    "    lea rcx, [rip + __rela_start]",
    "    lea rdx, [rip + __rela_end]",
    "2:  cmp rcx, rdx",
    "    jae 3f",
    "    mov rax, [rcx + 16]",
    "    add rax, rbx",
    "    mov rdi, [rcx]",
    "    mov [rbx + rdi], rax",
    "    add rcx, {rela_len}",
    "    jmp 2b",

    "3:  lea rdi, [rip + __bss_start]",
    "    lea rcx, [rip + __bss_end]",
    "    sub rcx, rdi",
    "    xor eax, eax",
    "    rep stosb",

    "    mov rax, cr0",
    "    and eax, {cr0_clear}",
    "    or eax, {cr0_set}",
    "    mov cr0, rax",
    "    mov rax, cr4",
    "    or eax, {cr4_set}",
    "    mov cr4, rax",

    "    mov rdi, rsi",
    "    mov rsi, rbx",
    "    call {main}",

    // From here on without the stack of whoever came here: the last fault handler jumps here too.
    ".global lastwords_resume",
    "lastwords_resume:",
    "    cli",
    "    cld",
    "    cmp byte ptr [rip + tables_saved], 0",
    "    je 4f",
    "    lidt [rip + saved_idtr]",
    "    lgdt [rip + saved_gdtr]",
    "4:  mov rsp, [rip + saved_frame]",
    "    pop rax; mov cr4, rax",
    "    pop rax; mov cr0, rax",
    "    pop r15; pop r14; pop r13; pop r12; pop r11; pop r10; pop r9",
    "    pop r8; pop rdi; pop rsi; pop rbp; pop rbx; pop rdx; pop rcx; pop rax",
    "    popfq",
    "    mov rsp, [rip + saved_rsp]",
    "    jmp [rip + kernel_entry]",
    ".popsection",

    // Not in .bss: these are written before it is cleared.
    ".pushsection .data",
    ".balign 8",
    "saved_rsp: .quad 0",
    "saved_frame: .quad 0",
    "kernel_entry: .quad 0",
    ".global saved_idtr, saved_gdtr, tables_saved",
    "saved_idtr: .zero 10",
    ".balign 8",
    "saved_gdtr: .zero 10",
    "tables_saved: .byte 0",
    ".popsection",

    ".pushsection .stack, \"aw\", @nobits",
    ".balign 16",
    ".zero 0x10000",
    "stack_top:",
    ".popsection",

    kernel_entry_back = const stub::KERNEL_ENTRY_BACK,
    displaced = const stub::DISPLACED,
    rela_len = const RELA_LEN,
    cr0_clear = const (!CR0_EM_TS).cast_signed(),
    cr0_set = const CR0_MP,
    cr4_set = const CR4_SSE,
    main = sym crate::main,
);
