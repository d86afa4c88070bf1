/* A TCG plugin for QEMU: counts instructions, and writes down how many there have been
 *
 *   - whenever code at a low address is translated, which is when it first runs: the kernel's own addresses are
 *     high, what runs between two kernels is low. A line: instructions so far in hex, blank, the address in hex.
 *   - whenever the mark runs, a long NOP that nobody else has (guest/user.s). A line: instructions, " mark".
 *   - at the end. A line: instructions, " end".
 *
 * Each instruction is counted when it runs, and not a block when it is entered: a page fault leaves a block in the
 * middle. A string instruction (rep movs) counts as many times as it repeats, as QEMU runs it.
 *
 * The interface is QEMU's (docs/devel/tcg-plugins.rst), version 1. Debian has no header for it, so what is used of it
 * is declared here. */

#include <stdint.h>
#include <stdio.h>
#include <string.h>

typedef uint64_t qemu_plugin_id_t;
struct qemu_plugin_tb;
struct qemu_plugin_insn;

enum { QEMU_PLUGIN_INLINE_ADD_U64 };
enum { QEMU_PLUGIN_CB_NO_REGS };

void qemu_plugin_register_vcpu_tb_trans_cb(qemu_plugin_id_t id,
                                           void (*callback)(qemu_plugin_id_t, struct qemu_plugin_tb *));
void qemu_plugin_register_vcpu_insn_exec_cb(struct qemu_plugin_insn *insn, void (*callback)(unsigned, void *),
                                            int registers, void *data);
void qemu_plugin_register_vcpu_insn_exec_inline(struct qemu_plugin_insn *insn, int operation, void *counter,
                                                uint64_t add);
void qemu_plugin_register_atexit_cb(qemu_plugin_id_t id, void (*callback)(qemu_plugin_id_t, void *),
                                    void *data);
size_t qemu_plugin_tb_n_insns(const struct qemu_plugin_tb *tb);
uint64_t qemu_plugin_tb_vaddr(const struct qemu_plugin_tb *tb);
struct qemu_plugin_insn *qemu_plugin_tb_get_insn(const struct qemu_plugin_tb *tb, size_t at);
const void *qemu_plugin_insn_data(const struct qemu_plugin_insn *insn);
size_t qemu_plugin_insn_size(const struct qemu_plugin_insn *insn);

int qemu_plugin_version = 1;

/* nopl 0x6b72616d(%rax): "mark". */
static const unsigned char mark[7] = {0x0f, 0x1f, 0x80, 'm', 'a', 'r', 'k'};

static uint64_t instructions;
static FILE *file;

static void line(const char *what)
{
    fprintf(file, "%llx %s\n", (unsigned long long)instructions, what);
    fflush(file);
}

static void marked(unsigned cpu, void *data)
{
    line("mark");
    (void)cpu, (void)data;
}

static void ended(qemu_plugin_id_t id, void *data)
{
    line("end");
    (void)id, (void)data;
}

static void translated(qemu_plugin_id_t id, struct qemu_plugin_tb *tb)
{
    uint64_t address = qemu_plugin_tb_vaddr(tb);
    if (address >> 47 == 0) {
        char digits[17];
        snprintf(digits, sizeof digits, "%llx", (unsigned long long)address);
        line(digits);
    }
    for (size_t at = 0; at < qemu_plugin_tb_n_insns(tb); at++) {
        struct qemu_plugin_insn *insn = qemu_plugin_tb_get_insn(tb, at);
        qemu_plugin_register_vcpu_insn_exec_inline(insn, QEMU_PLUGIN_INLINE_ADD_U64, &instructions, 1);
        if (qemu_plugin_insn_size(insn) == sizeof mark
            && memcmp(qemu_plugin_insn_data(insn), mark, sizeof mark) == 0)
            qemu_plugin_register_vcpu_insn_exec_cb(insn, marked, QEMU_PLUGIN_CB_NO_REGS, NULL);
    }
    (void)id;
}

/* The one argument is `out=PATH`. */
int qemu_plugin_install(qemu_plugin_id_t id, const void *info, int argc, char **argv)
{
    (void)info;
    if (argc != 1 || (file = fopen(argv[0] + sizeof "out=" - 1, "w")) == NULL)
        return 1;
    qemu_plugin_register_vcpu_tb_trans_cb(id, translated);
    qemu_plugin_register_atexit_cb(id, ended, NULL);
    return 0;
}
