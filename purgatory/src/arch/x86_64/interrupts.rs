//! Exceptions and NMIs during the report.
//!
//! The crashed kernel leaves no IDT: an NMI that comes now would be a triple fault, and the dump lost. Here an NMI is
//! counted and returned from, and any other exception ends the step that it happened in: [`guard`] returns, and
//! the next step runs. An exception outside a step, or one too many, jumps to the dump kernel at once. Before the
//! jump the tables of before are loaded again (`entry`).

use core::arch::{asm, global_asm};
use core::ffi::c_void;
use core::ptr::{addr_of, addr_of_mut};
use lastwords_core::sequence::Fault;

/// Selectors: the boot protocol's own, so that they stay valid for the kernel.
const CODE: u16 = 0x10;
const DATA: u16 = 0x18;
const TSS_SELECTOR: u16 = 0x20;
/// Flat 64-bit code, flat data (Intel SDM volume 3, 3.4.5).
const CODE_DESCRIPTOR: u64 = 0x00af_9a00_0000_ffff;
const DATA_DESCRIPTOR: u64 = 0x00cf_9200_0000_ffff;
/// Present, 64-bit TSS, available.
const TSS_TYPE: u64 = 0x89;
/// Present, 64-bit interrupt gate.
const INTERRUPT_GATE: u64 = 0x8e;

/// Stacks in the TSS (IST1 to IST3): exceptions; NMI; what can come in the middle of both.
const IST_FAULT: u64 = 1;
const IST_NMI: u64 = 2;
const IST_WORST: u64 = 3;
const NMI: usize = 2;
const DOUBLE_FAULT: usize = 8;
const MACHINE_CHECK: usize = 18;

/// Bytes from one vector's handler to the next.
const HANDLER_LEN: usize = 16;
/// The exceptions. No interrupt comes: IF is clear.
const VECTORS: usize = 32;
/// So many exceptions, and it is the machine that is broken: nothing more is reported.
const TOO_MANY: u32 = 8;

/// Task state segment (Intel SDM volume 3, 8.7): the stacks are all that is used of it.
#[repr(C, packed)]
struct Tss {
    reserved: u32,
    rsp: [u64; 3],
    reserved_1: u64,
    ist: [u64; 7],
    reserved_2: u64,
    reserved_3: u16,
    io_map: u16,
}

#[repr(C, packed)]
struct TableRegister {
    limit: u16,
    base: u64,
}

#[repr(align(16))]
struct Aligned<T>(T);

static mut GDT: Aligned<[u64; 6]> = Aligned([0; 6]);
static mut IDT: Aligned<[[u64; 2]; VECTORS]> = Aligned([[0; 2]; VECTORS]);
static mut TSS: Tss = Tss {
    reserved: 0,
    rsp: [0; 3],
    reserved_1: 0,
    ist: [0; 7],
    reserved_2: 0,
    reserved_3: 0,
    io_map: size_of::<Tss>() as u16,
};

unsafe extern "C" {
    static lastwords_handlers: u8;
    static lastwords_fault_stack: u8;
    static lastwords_nmi_stack: u8;
    static lastwords_worst_stack: u8;
    static mut saved_idtr: [u8; 10];
    static mut saved_gdtr: [u8; 10];
    static mut tables_saved: u8;
    static fault_vector: u64;
    static fault_rip: u64;
    static fault_cr2: u64;
    static __image_start: u8;
    fn lastwords_guarded(call: extern "C" fn(*mut c_void), step: *mut c_void) -> u32;
}

/// A step behind a thin pointer, for the assembly to pass on.
type Step<'a> = &'a mut dyn FnMut();

global_asm!(
    ".pushsection .text, \"ax\"",
    // Calls rdi(rsi) in a way that the fault handler can return from. Returns 0, or 1 after an exception.
    "lastwords_guarded:",
    "    push rbx; push rbp; push r12; push r13; push r14; push r15",
    "    sub rsp, 8",
    "    mov [rip + recover_rsp], rsp",
    "    mov rax, rdi",
    "    mov rdi, rsi",
    "    call rax",
    "    xor eax, eax",
    "2:  mov qword ptr [rip + recover_rsp], 0",
    "    add rsp, 8",
    "    pop r15; pop r14; pop r13; pop r12; pop rbp; pop rbx",
    "    ret",

    // One handler a vector, all of one length: error code (or 0) and vector on the stack.
    ".balign 16",
    "lastwords_handlers:",
    ".set vector, 0",
    ".rept {vectors}",
    "    .balign {handler_len}",
    "    .if vector == {nmi}",
    "    lock inc dword ptr [rip + nmis]",
    "    iretq",
    "    .else",
    // Vectors with an error code of the CPU's own: 8, 10 to 14, 17, 21, 29, 30.
    "    .ifeq (vector - 8) * (vector - 10) * (vector - 11) * (vector - 12) * (vector - 13) * (vector - 14) * (vector - 17) * (vector - 21) * (vector - 29) * (vector - 30)",
    "    .else",
    "    push 0",
    "    .endif",
    "    push vector",
    "    jmp 3f",
    "    .endif",
    "    .set vector, vector + 1",
    ".endr",
    ".balign {handler_len}",

    // The stack now: vector, error code, RIP, CS, RFLAGS, RSP, SS.
    "3:  cmp qword ptr [rip + recover_rsp], 0",
    "    je 4f",
    "    inc dword ptr [rip + faults]",
    "    cmp dword ptr [rip + faults], {too_many}",
    "    ja 4f",
    "    mov rax, [rsp]",
    "    mov [rip + fault_vector], rax",
    "    mov rax, [rsp + 16]",
    "    mov [rip + fault_rip], rax",
    "    mov rax, cr2",
    "    mov [rip + fault_cr2], rax",
    "    cld",
    "    mov rsp, [rip + recover_rsp]",
    "    mov eax, 1",
    "    jmp 2b",
    "4:  jmp lastwords_resume",
    ".popsection",

    ".pushsection .bss",
    ".balign 8",
    "recover_rsp: .zero 8",
    ".global fault_vector, fault_rip, fault_cr2",
    "fault_vector: .zero 8",
    "fault_rip: .zero 8",
    "fault_cr2: .zero 8",
    "faults: .zero 4",
    "nmis: .zero 4",
    ".popsection",

    ".pushsection .stack.ist, \"aw\", @nobits",
    ".balign 16",
    ".zero 0x800",
    "lastwords_fault_stack:",
    ".zero 0x400",
    "lastwords_nmi_stack:",
    ".zero 0x400",
    "lastwords_worst_stack:",
    ".popsection",

    vectors = const VECTORS,
    handler_len = const HANDLER_LEN,
    nmi = const NMI,
    too_many = const TOO_MANY,
);

/// Loads our own GDT, TSS and IDT. Called once.
pub fn set_up() {
    let tss = addr_of!(TSS) as u64;
    let limit = size_of::<Tss>() as u64 - 1;
    // SAFETY: one CPU, interrupts off, called once: nobody else has these statics. The handlers and stacks are the
    // assembly's above.
    unsafe {
        (*addr_of_mut!(TSS)).ist = [
            addr_of!(lastwords_fault_stack) as u64,
            addr_of!(lastwords_nmi_stack) as u64,
            addr_of!(lastwords_worst_stack) as u64,
            0,
            0,
            0,
            0,
        ];
        (*addr_of_mut!(GDT)).0 = [
            0,
            0,
            CODE_DESCRIPTOR,
            DATA_DESCRIPTOR,
            limit | (tss & 0xff_ffff) << 16 | TSS_TYPE << 40 | (tss >> 24 & 0xff) << 56,
            tss >> 32,
        ];
        for (vector, gate) in (*addr_of_mut!(IDT)).0.iter_mut().enumerate() {
            let handler = addr_of!(lastwords_handlers) as u64 + (vector * HANDLER_LEN) as u64;
            let stack = match vector {
                NMI => IST_NMI,
                DOUBLE_FAULT | MACHINE_CHECK => IST_WORST,
                _ => IST_FAULT,
            };
            *gate = [
                handler & 0xffff
                    | u64::from(CODE) << 16
                    | stack << 32
                    | INTERRUPT_GATE << 40
                    | (handler >> 16 & 0xffff) << 48,
                handler >> 32,
            ];
        }
    }
    let gdtr = TableRegister { limit: size_of::<[u64; 6]>() as u16 - 1, base: addr_of!(GDT) as u64 };
    let idtr =
        TableRegister { limit: size_of::<[[u64; 2]; VECTORS]>() as u16 - 1, base: addr_of!(IDT) as u64 };
    // SAFETY: the tables are complete and stay where they are. The far return reloads CS from the new GDT, which has
    // the same flat code; nothing else refers to the old tables, and `entry` loads them again.
    unsafe {
        asm!(
            "sidt [{saved_idtr}]",
            "sgdt [{saved_gdtr}]",
            "lgdt [{gdtr}]",
            "push {code}",
            "lea {scratch}, [rip + 2f]",
            "push {scratch}",
            "retfq",
            "2:",
            "mov ds, {data:e}",
            "mov es, {data:e}",
            "mov ss, {data:e}",
            "ltr {tss:x}",
            "lidt [{idtr}]",
            saved_idtr = in(reg) addr_of_mut!(saved_idtr),
            saved_gdtr = in(reg) addr_of_mut!(saved_gdtr),
            gdtr = in(reg) &raw const gdtr,
            idtr = in(reg) &raw const idtr,
            code = const CODE,
            data = in(reg) u32::from(DATA),
            tss = in(reg) TSS_SELECTOR,
            scratch = out(reg) _,
        );
        addr_of_mut!(tables_saved).write(1);
    }
}

extern "C" fn call(step: *mut c_void) {
    // SAFETY: `guard` passes a pointer to its own argument, which lives until it returns.
    unsafe { (*step.cast::<Step<'_>>())() }
}

/// Runs a step. An exception in it ends it there, and is returned; what the step has changed so far stays.
pub fn guard(mut step: Step<'_>) -> Result<(), Fault> {
    // SAFETY: after an exception the step's frames are abandoned, which is sound because nothing in the image has a
    // destructor; callee-saved registers and the stack are as they were before the call.
    if unsafe { lastwords_guarded(call, (&raw mut step).cast()) } == 0 {
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
