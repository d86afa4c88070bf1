# The kernel module that the guests crash by: ways to die that Debian's kernels do not offer (they have no lkdtm).
#
# Assembled once for each way (`vm/src/machine/crash_module.rs`), with these in front: the macro `die`, which calls the
# way's function, the macro `module`, its name, and what differs between kernels: the macro `vermagic`, the size of `struct
# module` and the place of `init` in it, and BUG_FORMAT, whether `struct bug_entry` has a format (6.19 and later).
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
        .weak __list_add_valid          # until 6.5; then
        .weak __list_add_valid_or_report
        .weak __ubsan_handle_out_of_bounds

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

# What the kernel's own BUG() and WARN() are: an invalid instruction and its line in a table.
.macro invalid line, flags
1:      ud2
        .pushsection __bug_table, "aw"
2:      .long 1b - .            # from here to the instruction,
.if BUG_FORMAT
        .long 0                 # to a text, which there is none,
.endif
        .long file - .          # and to the name of the file
        .short \line
        .short \flags
        .popsection
.endm

function bug
        invalid 42, 0
end bug

# WARN_ON(): a warning, which taints the kernel by its tenth flag.
function warning
        invalid 43, 0x901
        pop %rbp
        ret
end warning

# One after the other, for ever, but not so fast that nothing else is left in the log.
function warnings
1:      call warning
        mov $0x100000, %ecx
2:      dec %ecx
        jnz 2b
        call lend
        jmp 1b
end warnings

# A counter of references that went below zero: the kernel's own warning.
function refcount
        lea counter(%rip), %rdi
        mov $3, %esi            # REFCOUNT_SUB_UAF
        call refcount_warn_saturate
end refcount

# What list_add() does between two entries that do not belong together.
function list_corruption
        lea mutex(%rip), %rdi
        lea list(%rip), %rsi
        lea list+16(%rip), %rdx
        mov $__list_add_valid, %rax
        mov $__list_add_valid_or_report, %rcx
        test %rax, %rax
        cmovz %rcx, %rax
        call *%rax
end list_corruption

# What a compiler puts before the use of an array, where the index is too large.
function ubsan
        lea out_of_bounds(%rip), %rdi
        mov $7, %esi
        call __ubsan_handle_out_of_bounds
end ubsan

# Recursion without end.
function stack_overflow
        sub $0x80, %rsp
        call stack_overflow
end stack_overflow

# No other process gets this CPU any more, for who holds a spin lock is not to be interrupted by one.
function soft_lockup
        lea lock(%rip), %rdi
        call _raw_spin_lock
1:      pause
        jmp 1b
end soft_lockup

# The same, but the CPU is lent to others now and then, so that the machine goes on. No interrupt in between: the NMI that
# stops it finds it here, and not in an interrupt's handler.
function busy
1:      mov $16384, %ecx
        cli
2:      pause
        dec %ecx
        jnz 2b
        sti
        call lend
        jmp 1b
end busy

function lend
        mov $__cond_resched, %rax
        test %rax, %rax         # a kernel without it takes the CPU where it likes
        jz 1f
        call *%rax
1:      pop %rbp
        ret
end lend

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

list:   .quad list, list        # struct list_head: next, previous; two lists of one entry each
        .quad list+16, list+16
counter:
        .long 0
        .p2align 3
out_of_bounds:                  # where, line, column, the array's type, the index' type
        .quad file
        .long 44, 5
        .quad array, index

        .bss
        .p2align 3
detector:
        .zero 8
lock:   .zero 8
mutex:  .zero 128
key:    .zero 64
event:  .zero 4096

        .section .rodata
name:   .asciz "crash"
file:   .asciz "guest/crash.s"
        .p2align 1
array:  .short -1, 0            # a type that is no number; its name
        .asciz "'int [4]'"
        .p2align 1
index:  .short 0, 5 << 1 | 1    # a number of 2^5 bits with a sign
        .asciz "'int'"
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
        module "name="
        .asciz "license=Dual MIT/GPL"   # the kernel's name for MIT
        .asciz "retpoline=Y"
        vermagic

        .section .gnu.linkonce.this_module, "aw"
        .p2align 6
        .globl __this_module
        .type __this_module, @object
__this_module:
        .org 24
        module
        .org MODULE_INIT
        .quad crash_init
        .org MODULE_SIZE
        .size __this_module, . - __this_module
