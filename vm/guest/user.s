# Programs of a user's, each of a few instructions and linked from its own entry point
# (`vm/src/machine/user_programs.rs`).

        .set FORK, 57
        .set WAIT4, 61
        .set SETUID, 105
        .set SETGID, 106
        .set EXECVE, 59
        .set EXIT, 60
        .set USER, 1000

        .text

# as_user PROGRAM ARGUMENTS...: the program, run by a user who may do nothing.
        .globl as_user
as_user:
        mov $SETGID, %eax
        mov $USER, %edi
        syscall
        mov $SETUID, %eax
        mov $USER, %edi
        syscall
        mov (%rsp), %rcx                # argc, argv..., 0, envp...
        lea 16(%rsp), %rsi
        mov (%rsi), %rdi
        lea 16(%rsp, %rcx, 8), %rdx
        mov $EXECVE, %eax
        syscall

# Does nothing.
        .globl idle
idle:   mov $EXIT, %eax
        xor %edi, %edi
        syscall

# The instruction that the counter of instructions knows (`vm/plugin/count.c`): a long NOP, "mark".
        .macro mark
        nopl 0x6b72616d(%rax)
        .endm

# counted PATH ARGUMENTS...: the program, with a mark before it and one when it has ended. Its status, or 255 when it was
# killed.
        .globl counted
counted:
        mov (%rsp), %rcx
        lea 16(%rsp), %rsi
        mov (%rsi), %rdi
        lea 16(%rsp, %rcx, 8), %rdx
        mark
        mov $FORK, %eax
        syscall
        test %eax, %eax
        jz 1f
        mov %eax, %edi
        push $0
        mov %rsp, %rsi
        xor %edx, %edx
        xor %r10d, %r10d
        mov $WAIT4, %eax
        syscall
        mark
        pop %rcx
        movzbl %ch, %edi
        test $0x7f, %cl
        jz 2f
        mov $255, %edi
        jmp 2f
1:      mov $EXECVE, %eax
        syscall
        mov $127, %edi
2:      mov $EXIT, %eax
        syscall

# mark: a mark, and nothing else.
        .globl mark
mark:   mark
        jmp idle

# A write through a null pointer.
        .globl segfault
segfault:
        movl $1, 0

# What the kernel alone may do.
        .globl privileged
privileged:
        hlt
