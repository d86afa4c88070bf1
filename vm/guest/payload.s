# A dump kernel that is there to be reached: a whole bzImage of a few KB (Linux Documentation/arch/x86/boot.rst) that
# prints one line and switches the machine off. It needs nothing but a CPU: no stack, no table, no memory but its own.
# `vm/src/machine/payload.rs` assembles it.

        .set SETUP, 2 * 512             # boot sector and one sector of setup
        .set ENTRY_64, 0x200
        .set SIZE, 0x1000               # of the part that is loaded
        .set INIT_SIZE, 4 << 20         # with room for the image behind it

        .text
        .org 0x1f1
        .byte 1                         # setup_sects
        .org 0x1f4
        .long SIZE / 16           # syssize
        .org 0x1fe
        .short 0xaa55                   # boot_flag
        .byte 0xeb, 0x6a                # jump, whose length tells the header's
        .ascii "HdrS"
        .short 0x20f                    # version
        .org 0x211
        .byte 1                         # loadflags: loaded high
        .org 0x230
        .long 1 << 21                   # kernel_alignment
        .byte 1, 21                     # relocatable_kernel, min_alignment
        .short 0x63                     # xloadflags: 64-bit entry, above 4 GiB, five-level paging
        .long 2047                      # cmdline_size
        .org 0x258
        .quad 1 << 20                   # pref_address
        .long INIT_SIZE

        .org SETUP                      # the 32-bit entry, which nobody takes
        hlt

        .org SETUP + ENTRY_64
        cli
        cld
        lea line(%rip), %rsi
1:      mov $0x3fd, %dx                 # ttyS0: line status
2:      in %dx, %al
        test $0x20, %al                 # may the next byte come?
        jz 2b
        lodsb
        test %al, %al
        jz 3f
        mov $0x3f8, %dx
        out %al, %dx
        jmp 1b
3:      mov $0x604, %dx                 # ACPI's PM1 control register of QEMU's q35
        mov $0x2000, %ax                # SLP_EN, type 0: off
        out %ax, %dx
4:      hlt
        jmp 4b
line:   .asciz "payload: the dump kernel is entered\r\n"
        .org SETUP + SIZE
