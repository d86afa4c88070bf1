//! The way in and the way out.
//!
//! State at entry, from the hook at the dump kernel's 64-bit entry point (Linux `Documentation/arch/x86/boot.rst`,
//! "64-bit Boot Protocol"): long mode, paging on, RAM identity mapped, interrupts off, RSI = boot_params. The stack
//! is not known to be one, the GDT and IDT may be gone, and SSE faults until CR4.OSFXSR is set.
//!
//! State at the other entry, as the purgatory: long mode and paging as above, every register zero
//! (Linux `arch/x86/kernel/relocate_kernel_64.S`); what the first one has in RSI is in the header.
//!
//! The duties, in this order: keep every register for the kernel; take exceptions and NMIs (`interrupts`); open the way
//! out (put the bytes back that the hook displaced, or take the entry point from the header), so that it leads on
//! whatever happens; see whether the image is what it was, and take the way out if it is not; relocate the image to
//! where it lies, clear its zeroed data, let the CPU run SSE, call `main`, put everything back, jump.

use super::interrupts::NMI_ONLY;
use core::arch::global_asm;
use core::mem::{offset_of, size_of};
use core::ptr::addr_of_mut;
use lastwords_core::abi::{self, Handoff, Header, WayOut};
use lastwords_core::digest;

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
    no_dump_kernel: 0,
    ways_out: [WayOut::NONE; 2],
    own_sum: 0,
    parameters: [0; abi::PARAMETERS_LEN],
    handoff: Handoff::EMPTY,
};

/// CR0.EM and CR0.TS make SSE fault, CR0.MP belongs to a cleared EM; CR4.OSFXSR and OSXMMEXCPT allow it.
const CR0_EM_TS: u32 = 1 << 2 | 1 << 3;
const CR0_MP: u32 = 1 << 1;
const CR4_SSE: u32 = 1 << 9 | 1 << 10;

/// Where RSI lies among the kept registers, in bytes from the last one that was pushed.
const KEPT_RSI: usize = 11 * 8;

unsafe extern "C" {
    /// Not 0: the crashed kernel is gone, and whoever comes next expects no table of it.
    static mut after_crash: u8;
}

/// From here on it is known that this is a crash boot: our NMI handler stays for the kernel that comes next.
pub fn is_crash() {
    // SAFETY: one CPU; the way out alone reads it.
    unsafe { addr_of_mut!(after_crash).write(1) };
}

global_asm!(
    ".pushsection .text.entry, \"ax\"",
    ".global lastwords_entry, lastwords_purgatory_entry",
    "lastwords_purgatory_entry:",
    "    mov byte ptr [rip + after_crash], 1",
    "    jmp 1f",
    "lastwords_entry:",
    "    mov byte ptr [rip + after_crash], 0",
    "1:  mov [rip + saved_rsp], rsp",
    "    lea rsp, [rip + stack_top]",
    "    pushfq",
    "    cli",
    "    cld",
    "    push rax; push rcx; push rdx; push rbx; push rbp; push rsi; push rdi; push r8",
    "    push r9; push r10; push r11; push r12; push r13; push r14; push r15",
    "    mov rax, cr0; push rax",
    "    mov rax, cr4; push rax",
    "    mov rbp, rsp",
    "    mov [rip + saved_frame], rbp",
    "    call lastwords_tables",

    // The way out: the first of the two whose sum is right. Where neither is, the first one is as good as any.
    "    lea rbx, [rip + __image_start]",
    "    lea rsi, [rbx + {ways_out}]",
    "    call 2f",
    "    je 3f",
    "    add rsi, {way_out_len}",
    "    call 2f",
    "    je 3f",
    "    lea rsi, [rbx + {ways_out}]",
    "    jmp 3f",
    "2:  mov rdi, rsi",
    "    lea rcx, [rsi + {sum}]",
    "    call lastwords_sum",
    "    cmp rax, [rcx]",
    "    ret",
    "3:  cmp byte ptr [rip + after_crash], 0",
    "    je 4f",
    "    mov rdi, [rsi + {kernel_entry}]",
    "    mov rax, [rsi + {boot_params}]",
    "    mov [rbp + {kept_rsi}], rax",
    "    jmp 5f",
    "4:  mov rdi, rbx",
    "    sub rdi, [rsi + {kernel_entry_back}]",
    "    mov eax, [rsi + {displaced}]",
    "    mov [rdi], eax",
    "    mov al, [rsi + {displaced} + 4]",
    "    mov [rdi + 4], al",
    "5:  mov [rip + kernel_entry], rdi",

    // A corrupt image reports nothing. Its length is not gone by where it lies behind what the linker made.
    "    mov ecx, [rbx + {file_size}]",
    "    add rcx, rbx",
    "    lea rax, [rip + __file_end]",
    "    cmp rcx, rax",
    "    ja lastwords_resume",
    "    lea rdi, [rbx + {summed}]",
    "    call lastwords_sum",
    "    cmp rax, [rbx + {own_sum}]",
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

    "    mov rdi, [rbp + {kept_rsi}]",
    "    mov rsi, rbx",
    "    call {main}",

    // From here on without the stack of whoever came here: the last fault handler jumps here too.
    ".global lastwords_resume",
    "lastwords_resume:",
    "    cli",
    "    cld",
    "    and qword ptr [rip + recover_rsp], 0",
    "    mov rax, [rip + saved_cr3]",
    "    test rax, rax",
    "    jz 8f",
    "    mov cr3, rax",
    // The crashed kernel has left no IDT, and the dump kernel has none at first: the NMI's gate stays, and what else
    // comes is the triple fault that it would be without us.
    "8:  cmp byte ptr [rip + after_crash], 0",
    "    je 9f",
    "    mov byte ptr [rip + idt + 5], 0",
    "    mov byte ptr [rip + idt + 16 + 5], 0",
    "    mov word ptr [rip + our_idtr], {nmi_only}",
    "    lidt [rip + our_idtr]",
    "    jmp 2f",
    "9:  lidt [rip + saved_idtr]",
    "    lgdt [rip + saved_gdtr]",
    "2:  mov rsp, [rip + saved_frame]",
    "    pop rax; mov cr4, rax",
    "    pop rax; mov cr0, rax",
    "    pop r15; pop r14; pop r13; pop r12; pop r11; pop r10; pop r9",
    "    pop r8; pop rdi; pop rsi; pop rbp; pop rbx; pop rdx; pop rcx; pop rax",
    "    popfq",
    "    mov rsp, [rip + saved_rsp]",
    "    jmp [rip + kernel_entry]",

    // `digest::sum` of the words from RDI to RCX, in RAX.
    "lastwords_sum:",
    "    movabs rax, {sum_start}",
    "    movabs r8, {prime_1}",
    "    movabs r9, {prime_2}",
    "2:  cmp rdi, rcx",
    "    jae 3f",
    "    mov rdx, [rdi]",
    "    imul rdx, r9",
    "    add rax, rdx",
    "    rol rax, {rotation}",
    "    imul rax, r8",
    "    add rdi, 8",
    "    jmp 2b",
    "3:  ret",
    ".popsection",

    // Neither in .data, which is summed, nor in .bss, which is cleared, after these have been written.
    ".pushsection .keep, \"aw\", @nobits",
    ".balign 8",
    "saved_rsp: .zero 8",
    "saved_frame: .zero 8",
    "kernel_entry: .zero 8",
    "after_crash: .zero 1",
    ".global after_crash",
    ".popsection",

    ".pushsection .stack, \"aw\", @nobits",
    ".balign 16",
    ".zero 0x28000",
    "stack_top:",
    ".popsection",

    ways_out = const abi::WAYS_OUT,
    way_out_len = const size_of::<WayOut>(),
    sum = const offset_of!(WayOut, sum),
    kernel_entry_back = const offset_of!(WayOut, kernel_entry_back),
    displaced = const offset_of!(WayOut, displaced),
    boot_params = const offset_of!(WayOut, boot_params),
    kernel_entry = const offset_of!(WayOut, kernel_entry),
    kept_rsi = const KEPT_RSI,
    file_size = const abi::FILE_SIZE,
    own_sum = const abi::OWN_SUM,
    summed = const abi::SUMMED,
    sum_start = const digest::SUM_START,
    prime_1 = const digest::PRIME_1,
    prime_2 = const digest::PRIME_2,
    rotation = const digest::ROTATION,
    cr0_clear = const (!CR0_EM_TS).cast_signed(),
    cr0_set = const CR0_MP,
    cr4_set = const CR4_SSE,
    nmi_only = const NMI_ONLY,
    main = sym crate::main,
);
