//! The way in and the way out.
//!
//! State at entry, from the hook at the dump kernel's 64-bit entry point (Linux `Documentation/arch/x86/boot.rst`,
//! "64-bit Boot Protocol"): long mode, paging on, RAM identity mapped, interrupts off, RSI = boot_params. The stack
//! is not known to be one, the GDT and IDT may be gone, and SSE faults until CR4.OSFXSR is set.
//!
//! State at the other entry, as the purgatory: long mode and paging as above, every register zero
//! (Linux `arch/x86/kernel/relocate_kernel_64.S`); what the first one has in RSI is in the header.
//!
//! The duties, in this order: keep every register for the kernel; open the way out (put the bytes back that the hook
//! displaced, or take the entry point from the header), so that it leads on whatever happens; see whether the
//! image is what it was, and take the way out if it is not; relocate the image to where it lies, clear its zeroed
//! data, let the CPU run SSE, call `main`, put everything back, jump.

use core::arch::global_asm;
use core::mem::offset_of;
use lastwords_core::abi::{self, Handoff, Header};

/// The first bytes of the image. The build fills in the sizes, the tool the rest.
#[unsafe(link_section = ".header")]
#[used]
static HEADER: Header = Header {
    magic: abi::MAGIC,
    version: abi::VERSION,
    entry: 0,
    purgatory_entry: 0,
    file_size: 0,
    memory_size: 0,
    kernel_entry_back: 0,
    displaced: [0; abi::DISPLACED_LEN],
    reserved: [0; 3],
    parameters: [0; abi::PARAMETERS_LEN],
    own_sum: 0,
    handoff: Handoff::EMPTY,
};

/// CR0.EM and CR0.TS make SSE fault, CR0.MP belongs to a cleared EM; CR4.OSFXSR and OSXMMEXCPT allow it.
const CR0_EM_TS: u32 = 1 << 2 | 1 << 3;
const CR0_MP: u32 = 1 << 1;
const CR4_SSE: u32 = 1 << 9 | 1 << 10;

global_asm!(
    ".pushsection .text.entry, \"ax\"",
    ".global lastwords_entry, lastwords_purgatory_entry",
    "lastwords_purgatory_entry:",
    "    mov rsi, [rip + __image_start + {boot_params}]",
    "    mov byte ptr [rip + as_purgatory], 1",
    "    jmp 1f",
    "lastwords_entry:",
    "    mov byte ptr [rip + as_purgatory], 0",
    "1:  mov [rip + saved_rsp], rsp",
    "    lea rsp, [rip + stack_top]",
    "    pushfq",
    "    cli",
    "    cld",
    "    push rax; push rcx; push rdx; push rbx; push rbp; push rsi; push rdi; push r8",
    "    push r9; push r10; push r11; push r12; push r13; push r14; push r15",
    "    mov rax, cr0; push rax",
    "    mov rax, cr4; push rax",
    "    mov [rip + saved_frame], rsp",
    "    mov byte ptr [rip + tables_saved], 0",
    "    mov qword ptr [rip + saved_cr3], 0",

    // The way out.
    "    lea rbx, [rip + __image_start]",
    "    cmp byte ptr [rip + as_purgatory], 0",
    "    je 2f",
    "    mov rax, [rbx + {kernel_entry}]",
    "    mov [rip + kernel_entry], rax",
    "    jmp 3f",
    "2:  mov eax, [rbx + {kernel_entry_back}]",
    "    mov rdi, rbx",
    "    sub rdi, rax",
    "    mov [rip + kernel_entry], rdi",
    "    mov eax, [rbx + {displaced}]",
    "    mov [rdi], eax",
    "    mov al, [rbx + {displaced} + 4]",
    "    mov [rdi + 4], al",

    // A corrupt image reports nothing. `abi::sum` over all that is in the file from the handoff on.
    "3:  lea rdi, [rbx + {handoff}]",
    "    mov ecx, [rbx + {file_size}]",
    "    add rcx, rbx",
    "    movabs rax, {sum_start}",
    "    movabs rdx, {sum_factor}",
    "4:  cmp rdi, rcx",
    "    jae 5f",
    "    xor rax, [rdi]",
    "    imul rax, rdx",
    "    add rdi, 8",
    "    jmp 4b",
    "5:  cmp rax, [rbx + {own_sum}]",
    "    jne lastwords_resume",

    // Every relocation adds the address that the image lies at. The build has put their offsets, two bytes each and a
    // zero behind the last one, in the place of the linker's table.
    "    lea rcx, [rip + __relocations]",
    "6:  movzx eax, word ptr [rcx]",
    "    test eax, eax",
    "    jz 7f",
    "    add [rbx + rax], rbx",
    "    add rcx, 2",
    "    jmp 6b",

    "7:  lea rdi, [rip + __bss_start]",
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
    "    je 8f",
    "    lidt [rip + saved_idtr]",
    "    lgdt [rip + saved_gdtr]",
    "8:  mov rax, [rip + saved_cr3]",
    "    test rax, rax",
    "    jz 9f",
    "    mov cr3, rax",
    "9:  mov rsp, [rip + saved_frame]",
    "    pop rax; mov cr4, rax",
    "    pop rax; mov cr0, rax",
    "    pop r15; pop r14; pop r13; pop r12; pop r11; pop r10; pop r9",
    "    pop r8; pop rdi; pop rsi; pop rbp; pop rbx; pop rdx; pop rcx; pop rax",
    "    popfq",
    "    mov rsp, [rip + saved_rsp]",
    "    jmp [rip + kernel_entry]",
    ".popsection",

    // Neither in .data, which is summed, nor in .bss, which is cleared, after these have been written.
    ".pushsection .keep, \"aw\", @nobits",
    ".balign 8",
    "saved_rsp: .zero 8",
    "saved_frame: .zero 8",
    "kernel_entry: .zero 8",
    "saved_cr3: .zero 8",
    ".global saved_idtr, saved_gdtr, tables_saved, saved_cr3",
    "saved_idtr: .zero 10",
    ".balign 8",
    "saved_gdtr: .zero 10",
    "tables_saved: .zero 1",
    "as_purgatory: .zero 1",
    ".popsection",

    ".pushsection .stack, \"aw\", @nobits",
    ".balign 16",
    ".zero 0x20000",
    "stack_top:",
    ".popsection",

    kernel_entry_back = const abi::KERNEL_ENTRY_BACK,
    displaced = const abi::DISPLACED,
    boot_params = const abi::HANDOFF + offset_of!(Handoff, boot_params),
    kernel_entry = const abi::HANDOFF + offset_of!(Handoff, kernel_entry),
    handoff = const abi::HANDOFF,
    file_size = const abi::FILE_SIZE,
    own_sum = const abi::OWN_SUM,
    sum_start = const abi::SUM_START,
    sum_factor = const abi::SUM_FACTOR,
    cr0_clear = const (!CR0_EM_TS).cast_signed(),
    cr0_set = const CR0_MP,
    cr4_set = const CR4_SSE,
    main = sym crate::main,
);
