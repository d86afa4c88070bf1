//! Exceptions and NMIs, from the image's first instructions to the dump kernel's own tables.
//!
//! The crashed kernel leaves no IDT: an NMI that comes then is a triple fault, and the dump lost; with CR4.MCE cleared a
//! machine check is one too. Here an NMI is returned from; a machine check that is none of this CPU's likewise; any
//! other exception ends the step that it happened in: [`guard`] returns, and the next step runs. An exception outside a
//! step, or one too many, goes on to the dump kernel at once (`entry`).
//!
//! No return is an IRET. After an NMI the CPU holds back the next ones until an IRET (Intel SDM volume 3, 6.7.1), and so
//! the first one keeps all others off, until the dump kernel, with tables of its own, returns from its first exception. That
//! is no promise: an SMI may let them in earlier. So a handler can be interrupted by its like at any instruction: it
//! has its frame on the stack of what it interrupted, of which nothing below RSP is in use (`-C no-redzone`, and
//! vm/tests/image.rs looks).
//!
//! The crashed kernel leaves CR4.FRED clear. An NMI to ourselves, to hold all others back from the start, is not sent: it
//! would need the local APIC, which nothing here can check.

use core::arch::x86_64::__cpuid;
use core::arch::{asm, global_asm};
use core::ffi::c_void;
use core::ptr::addr_of;
use lastwords_core::sequence::Fault;

/// Selector: the boot protocol's own, so that it stays valid for the kernel.
const CODE: u16 = 0x10;
/// Selector of the dump kernel's 32-bit code (`__KERNEL32_CS`), in tables of its own.
const CODE_32: u16 = 0x08;
/// Flat 64-bit code, flat data (Intel SDM volume 3, 3.4.5); accessed, which the CPU would otherwise write there.
const CODE_DESCRIPTOR: u64 = 0x00af_9b00_0000_ffff;
const DATA_DESCRIPTOR: u64 = 0x00cf_9300_0000_ffff;
/// A gate's bytes 2 to 5: the selector; no stack of its own; present, 64-bit interrupt gate.
const GATE: u32 = CODE as u32 | 0x8e << 24;

const NMI: u16 = 2;
const MACHINE_CHECK: u16 = 18;
/// The exceptions that push an error code: 8, 10 to 14, 17, 21, 29, 30.
const ERROR_CODE: u32 = 1 << 8 | 0x1f << 10 | 1 << 17 | 1 << 21 | 1 << 29 | 1 << 30;
/// #VE and #VC: what a guest with encrypted memory gets for what its hypervisor would have to do (TDX, SEV-ES).
pub const CONFIDENTIAL: [u8; 2] = [20, 29];

/// Bytes from one vector's handler to the next.
const HANDLER_LEN: usize = 4;
/// The exceptions. No interrupt comes: IF is clear.
const VECTORS: u16 = 32;
const GATE_LEN: u16 = 16;
/// Limit of a table that ends behind the NMI's gate.
pub const NMI_ONLY: u16 = (NMI + 1) * GATE_LEN - 1;
/// So many exceptions, and it is the machine that is broken: nothing more is reported.
const TOO_MANY: u32 = 8;

/// Machine check registers (Intel SDM volume 3, 15.3): how many banks, the status of all, the first bank's.
const MCG_CAP: u32 = 0x179;
const MCG_STATUS: u32 = 0x17a;
const MC0_STATUS: u32 = 0x401;
/// Banks that are looked at, four registers each. AMD has no more at these addresses.
const BANKS: u32 = 32;
/// MCG_STATUS: the interrupted program can go on; what it was about to do is the cause. Poisoned memory that is read has
/// both, and is read again by who returns.
const RIPV: u8 = 1;
const EIPV: u8 = 2;
/// High half of a bank's status: valid; processor context corrupt.
const VAL_PCC: u32 = 1 << (63 - 32) | 1 << (57 - 32);
/// CPUID leaf 1, EDX: machine check exception, machine check architecture.
const MCE_MCA: u32 = 1 << 7 | 1 << 14;
/// CR4.MCE.
const CR4_MCE: u64 = 1 << 6;

/// Bytes that these lie before the IDT.
const SAVED_IDTR: usize = 96;
const SAVED_GDTR: usize = 80;
const SAVED_CR3: usize = 64;
const RECOVER_RSP: usize = 56;
const FAULT_VECTOR: usize = 48;
const FAULT_RIP: usize = 40;
const FAULT_CR2: usize = 32;
const FAULTS: usize = 24;
const OUR_IDTR: usize = 16;

unsafe extern "C" {
    static fault_vector: u64;
    static fault_rip: u64;
    static fault_cr2: u64;
    static __image_start: u8;
    fn lastwords_guarded(call: extern "C" fn(*mut c_void), step: *mut c_void) -> u32;
}

global_asm!(
    ".pushsection .text.entry, \"ax\"",
    // Keeps the tables that are there and loads ours, before the image is relocated: no address in it is used. CS is left
    // as it is until an exception comes.
    "lastwords_tables:",
    "    lea rdi, [rip + idt]",
    "    sidt [rdi - {saved_idtr}]",
    "    sgdt [rdi - {saved_gdtr}]",
    "    xor eax, eax",
    "    mov [rdi - {saved_cr3}], rax",
    "    mov [rdi - {recover_rsp}], rax",
    "    mov [rdi - {faults}], rax",
    "    mov [rdi - {our_idtr} + 2], rdi",
    "    mov word ptr [rdi - {our_idtr}], {idt_limit}",
    "    lea rax, [rip + lastwords_handlers]",
    "    mov ecx, {vectors}",
    "2:  mov rdx, rax",
    "    mov [rdi], dx",
    "    mov dword ptr [rdi + 2], {gate}",
    "    shr rdx, 16",
    "    mov [rdi + 6], dx",
    "    shr rdx, 16",
    "    mov [rdi + 8], rdx",
    "    add rax, {handler_len}",
    "    add rdi, {gate_len}",
    "    dec ecx",
    "    jnz 2b",
    "    lea rax, [rip + gdt]",
    "    push rax",
    "    sub rsp, 8",
    "    mov word ptr [rsp + 6], {gdt_limit}",
    "    lgdt [rsp + 6]",
    "    add rsp, 16",
    "    lidt [rip + our_idtr]",
    "    ret",
    ".balign 8",
    "gdt: .quad 0, 0, {code_descriptor}, {data_descriptor}",

    // One handler a vector, all of one length: short jumps, whose targets come right behind the last one.
    ".balign {handler_len}",
    "lastwords_handlers:",
    ".set vector, 0",
    ".rept {vectors}",
    "    .balign {handler_len}",
    "    .if vector == {nmi}",
    "    jmp lastwords_return",
    "    .elseif vector == {machine_check}",
    "    jmp lastwords_machine_check",
    "    .else",
    "    push vector",
    "    jmp 2f",
    "    .endif",
    "    .set vector, vector + 1",
    ".endr",
    "2:  jmp lastwords_fault",

    // The stack now: RIP, CS, RFLAGS, RSP, SS. RIP, RFLAGS and RAX are put right below what the interrupted code has on
    // its stack, over what has been read here. CS is the boot protocol's from here on; but a way back to 32-bit code needs
    // the IRET.
    "lastwords_return:",
    "    cmp word ptr [rsp + 8], {code_32}",
    "    je 2f",
    "    push rax",
    "    push rbx",
    "    mov rax, [rsp + 40]",
    "    mov rbx, [rsp + 32]",
    "    mov [rax - 16], rbx",
    "    mov rbx, [rsp + 16]",
    "    mov [rax - 8], rbx",
    "    mov rbx, [rsp + 8]",
    "    mov [rax - 24], rbx",
    "    mov rbx, [rsp]",
    "    lea rsp, [rax - 24]",
    "    pop rax",
    "    popfq",
    "    ret",
    "2:  iretq",

    // What the banks say is left for the dump kernel to log.
    "lastwords_machine_check:",
    "    push rax",
    "    push rbx",
    "    push rcx",
    "    push rdx",
    "    mov ecx, {mcg_status}",
    "    rdmsr",
    "    mov bl, al",
    // Until it is clear, the next one is a shutdown.
    "    xor eax, eax",
    "    xor edx, edx",
    "    wrmsr",
    "    inc dword ptr [rip + faults]",
    "    cmp dword ptr [rip + faults], {too_many}",
    "    ja 4f",
    "    and bl, {ripv} | {eipv}",
    "    cmp bl, {ripv}",
    "    jne 4f",
    "    mov ecx, {mcg_cap}",
    "    rdmsr",
    "    movzx ebx, al",
    "    cmp ebx, {banks}",
    "    jbe 2f",
    "    mov ebx, {banks}",
    "2:  mov ecx, {mc0_status}",
    "3:  dec ebx",
    "    js 5f",
    "    rdmsr",
    "    add ecx, 4",
    "    not edx",
    "    test edx, {val_pcc}",
    "    jnz 3b",
    "4:  add rsp, 4 * 8",
    "    push {machine_check}",
    "    jmp lastwords_fault",
    "5:  pop rdx",
    "    pop rcx",
    "    pop rbx",
    "    pop rax",
    "    jmp lastwords_return",

    // The stack now: vector, error code where there is one, RIP. Nothing of what was interrupted is gone back to.
    "lastwords_fault:",
    "    cld",
    "    pop rdx",
    "    lea rdi, [rip + idt]",
    "    inc dword ptr [rdi - {faults}]",
    "    mov eax, [rdi - {faults}]",
    "    cmp eax, 2 * {too_many}",
    "    ja 4f",
    "    mov rbx, [rdi - {recover_rsp}]",
    "    test rbx, rbx",
    "    jz 3f",
    "    cmp eax, {too_many}",
    "    ja 3f",
    "    mov [rdi - {fault_vector}], rdx",
    "    mov eax, {error_code}",
    "    bt eax, edx",
    "    jnc 2f",
    "    pop rax",
    "2:  pop rax",
    "    mov [rdi - {fault_rip}], rax",
    "    mov rax, cr2",
    "    mov [rdi - {fault_cr2}], rax",
    "    mov rsp, rbx",
    "    mov eax, 1",
    "    jmp lastwords_recovered",
    "3:  jmp lastwords_resume",
    // Not even the way out works.
    "4:  mov word ptr [rdi - {our_idtr}], 0",
    "    lidt [rip + our_idtr]",
    "    ud2",

    // Calls rdi(rsi) in a way that the fault handler can return from. Returns 0, or 1 after an exception.
    "lastwords_guarded:",
    "    push rbx; push rbp; push r12; push r13; push r14; push r15",
    "    sub rsp, 8",
    "    mov [rip + recover_rsp], rsp",
    "    mov rax, rdi",
    "    mov rdi, rsi",
    "    call rax",
    "    xor eax, eax",
    "lastwords_recovered:",
    "    and qword ptr [rip + recover_rsp], 0",
    "    add rsp, 8",
    "    pop r15; pop r14; pop r13; pop r12; pop rbp; pop rbx",
    "    ret",
    ".popsection",

    // In use before .bss is cleared. What lies right before the IDT is reached from it in short instructions.
    ".pushsection .keep, \"aw\", @nobits",
    ".balign 16",
    ".zero {saved_idtr}",
    "idt: .zero {vectors} * {gate_len}",
    ".set saved_idtr, idt - {saved_idtr}",
    ".set saved_gdtr, idt - {saved_gdtr}",
    ".set saved_cr3, idt - {saved_cr3}",
    ".set recover_rsp, idt - {recover_rsp}",
    ".set fault_vector, idt - {fault_vector}",
    ".set fault_rip, idt - {fault_rip}",
    ".set fault_cr2, idt - {fault_cr2}",
    ".set faults, idt - {faults}",
    ".set our_idtr, idt - {our_idtr}",
    ".global saved_cr3, fault_vector, fault_rip, fault_cr2",
    ".popsection",

    saved_idtr = const SAVED_IDTR,
    saved_gdtr = const SAVED_GDTR,
    saved_cr3 = const SAVED_CR3,
    recover_rsp = const RECOVER_RSP,
    fault_vector = const FAULT_VECTOR,
    fault_rip = const FAULT_RIP,
    fault_cr2 = const FAULT_CR2,
    faults = const FAULTS,
    our_idtr = const OUR_IDTR,
    vectors = const VECTORS,
    handler_len = const HANDLER_LEN,
    gate_len = const GATE_LEN,
    gate = const GATE.cast_signed(),
    idt_limit = const VECTORS * GATE_LEN - 1,
    gdt_limit = const 4 * 8 - 1,
    code_32 = const CODE_32,
    code_descriptor = const CODE_DESCRIPTOR,
    data_descriptor = const DATA_DESCRIPTOR,
    nmi = const NMI,
    machine_check = const MACHINE_CHECK,
    error_code = const ERROR_CODE,
    too_many = const TOO_MANY,
    mcg_cap = const MCG_CAP,
    mcg_status = const MCG_STATUS,
    mc0_status = const MC0_STATUS,
    banks = const BANKS,
    ripv = const RIPV,
    eipv = const EIPV,
    val_pcc = const VAL_PCC.cast_signed(),
);

/// Lets machine checks come as exceptions, which they are not as the crashed kernel leaves the CPU. To be called in a
/// step. The way out puts CR4 back.
pub fn take_machine_checks() {
    if __cpuid(1).edx & MCE_MCA != MCE_MCA {
        return;
    }
    // SAFETY: the CPU has the register. What it says is of the machine check that the crashed kernel may have died of, and
    // as long as it says that one is under way the next one is a shutdown. Vector 18 has a handler.
    unsafe {
        asm!("wrmsr", in("ecx") MCG_STATUS, in("eax") 0, in("edx") 0, options(nomem, nostack, preserves_flags));
        asm!("mov {cr4}, cr4", "or {cr4}, {mce}", "mov cr4, {cr4}", cr4 = out(reg) _, mce = const CR4_MCE, options(nomem, nostack));
    }
}

extern "C" fn call<F: FnMut()>(step: *mut c_void) {
    // SAFETY: `guard` passes a pointer to its own argument, which lives until it returns.
    unsafe { (*step.cast::<F>())() }
}

/// Runs a step. An exception in it ends it there, and is returned; what the step has changed so far stays.
pub fn guard<F: FnMut()>(step: &mut F) -> Result<(), Fault> {
    guarded(call::<F>, (&raw mut *step).cast())
}

// Not part of `guard`, which is there once for each step: a table of a `dyn` step's functions takes more than a function.
#[inline(never)]
fn guarded(call: extern "C" fn(*mut c_void), step: *mut c_void) -> Result<(), Fault> {
    // SAFETY: after an exception the step's frames are abandoned, which is sound because nothing in the image has a
    // destructor; callee-saved registers and the stack are as they were before the call.
    if unsafe { lastwords_guarded(call, step) } == 0 {
        return Ok(());
    }
    // SAFETY: written by the handler, which has returned; no other one runs.
    unsafe {
        let (vector, rip) = (addr_of!(fault_vector).read_volatile(), addr_of!(fault_rip).read_volatile());
        Err(Fault {
            vector: vector as u8,
            offset: rip.wrapping_sub(addr_of!(__image_start) as u64),
            address: addr_of!(fault_cr2).read_volatile(),
        })
    }
}
