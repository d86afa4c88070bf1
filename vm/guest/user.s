# Programs of an unprivileged user's, each of a few instructions and linked from its own entry point
# (`vm/src/machine/user_programs.rs`).

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

# A write through a null pointer.
        .globl segfault
segfault:
        movl $1, 0

# What the kernel alone may do.
        .globl privileged
privileged:
        hlt
