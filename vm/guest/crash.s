# The kernel module that the guests crash by: ways to die that Debian's kernels do not offer (they have no lkdtm).
#
# Assembled once for each way (`vm/src/machine/crash_module.rs`), with these in front: the macro `die`, which calls the
# way's function, and what differs between kernels: the macro `vermagic`, and the size of `struct module` and the place
# of `init` in it.
# Each function has a frame of its own, since the kernel's unwinder knows no other way through code like this.

.macro function name
        .p2align 4
        .type \name, @function
\name:  endbr64
        push %rbp
        mov %rsp, %rbp
.endm

.macro end name
        .size \name, . - \name
.endm

        # What not every kernel has: null where it has not.
        .weak __cond_resched            # until 6.12 or so
        .weak __mutex_init              # until 6.14 or so; then
        .weak mutex_init_generic

        .text
        .zero 64        # an oops shows what stands before the instruction, too

# insmod runs it, in its own process. It never returns.
function crash_init
        die
end crash_init

function null_pointer
        xor %eax, %eax
        movl $1, 0x18(%rax)
end null_pointer

# An address that is none: bits 63 to 47 differ.
function protection_fault
        movabs $0xdead4ead00000000, %rax
        mov (%rax), %rax
end protection_fault

# What the kernel's own BUG() is: an invalid instruction and its line in a table.
function bug
1:      ud2
        .pushsection __bug_table, "aw"
2:      .long 1b - 2b           # from here to the instruction,
        .long 3f - (2b + 4)     # and to the name of the file;
        .short 42               # the line; flags
        .short 0
        .popsection
        .pushsection .rodata
3:      .asciz "guest/crash.s"
        .popsection
end bug

# Recursion without end.
function stack_overflow
        sub $0x80, %rsp
        call stack_overflow
end stack_overflow

# No other process gets this CPU any more.
function soft_lockup
1:      pause
        jmp 1b
end soft_lockup

# The same, but the CPU is lent to others now and then, so that the machine goes on.
function busy
1:      mov $4096, %ecx
2:      pause
        dec %ecx
        jnz 2b
        mov $__cond_resched, %rax
        test %rax, %rax         # a kernel without it takes the CPU where it likes
        jz 1b
        call *%rax
        jmp 1b
end busy

# No interrupt gets it either, short of the NMI.
function deaf
        cli
1:      jmp 1b
end deaf

# The same, found by the kernel's detector. That runs by an NMI from the CPU's performance counters, which an
# emulated CPU has not got: here the NMI comes from QEMU's monitor, and the kernel's own function, whose address is
# the module's parameter `detector`, gets it as it would get the other one.
function hard_lockup
        xor %edi, %edi          # NMI_LOCAL
        lea action(%rip), %rsi
        call __register_nmi_handler
        call deaf
end hard_lockup

# int (unsigned int type, struct pt_regs *regs): calls void (struct perf_event *, struct perf_sample_data *, regs).
function on_nmi
        mov %rsi, %rdx
        lea event(%rip), %rdi
        xor %esi, %esi
        call *detector(%rip)
        mov $1, %eax            # handled
        pop %rbp
        ret
end on_nmi

# A mutex is locked and then waited for, for ever.
function hung_task
        lea mutex(%rip), %rdi
        lea name(%rip), %rsi
        lea key(%rip), %rdx
        mov $__mutex_init, %rax
        mov $mutex_init_generic, %rcx
        test %rax, %rax
        cmovz %rcx, %rax
        call *%rax
        lea mutex(%rip), %rdi
        call mutex_lock
        lea mutex(%rip), %rdi
        call mutex_lock
end hung_task

# A panic, and a panic notifier that writes through a null pointer.
function double_panic
        lea panic_notifier_list(%rip), %rdi
        lea notifier(%rip), %rsi
        call atomic_notifier_chain_register
        lea name(%rip), %rdi
        xor %eax, %eax
        call panic
end double_panic

        .data
        .p2align 3
notifier:
        .quad null_pointer, 0, 0        # struct notifier_block: function, next, priority
action: .quad action, action    # struct nmiaction: list, handler, longest time, flags, name
        .quad on_nmi
        .quad 0, 0
        .quad name

        .bss
        .p2align 3
detector:
        .zero 8
mutex:  .zero 128
key:    .zero 64
event:  .zero 4096

        .section .rodata
name:   .asciz "crash"
parameter:
        .asciz "detector"

        .section __param, "a"   # struct kernel_param: name, module, operations, mode, level, flags, value
        .p2align 3
        .quad parameter
        .quad __this_module
        .quad param_ops_ulong
        .short 0
        .byte -1, 0
        .long 0
        .quad detector

        .section .modinfo, "a"
        .asciz "name=crash"
        .asciz "license=Dual MIT/GPL"   # the kernel's name for MIT
        .asciz "retpoline=Y"
        vermagic

        .section .gnu.linkonce.this_module, "aw"
        .p2align 6
        .globl __this_module
        .type __this_module, @object
__this_module:
        .org 24
        .asciz "crash"
        .org MODULE_INIT
        .quad crash_init
        .org MODULE_SIZE
        .size __this_module, . - __this_module
