/* A TCG plugin for QEMU: counts guest instructions, and writes down how many there have been whenever code at a low
 * address is translated, which is when it first runs. The kernel's own addresses are high; what runs between two
 * kernels is low. A line: instructions so far, address, both in hex.
 *
 * The interface is QEMU's (docs/devel/tcg-plugins.rst), version 1. Debian has no header for it, so what is used of it is
 * declared here. */

#include <stdint.h>
#include <stdio.h>

typedef uint64_t qemu_plugin_id_t;
struct qemu_plugin_tb;

enum { QEMU_PLUGIN_INLINE_ADD_U64 };

void qemu_plugin_register_vcpu_tb_trans_cb(qemu_plugin_id_t id,
                                           void (*callback)(qemu_plugin_id_t, struct qemu_plugin_tb *));
void qemu_plugin_register_vcpu_tb_exec_inline(struct qemu_plugin_tb *tb, int operation, void *counter, uint64_t add);
size_t qemu_plugin_tb_n_insns(const struct qemu_plugin_tb *tb);
uint64_t qemu_plugin_tb_vaddr(const struct qemu_plugin_tb *tb);

int qemu_plugin_version = 1;

static uint64_t instructions;
static FILE *file;

static void translated(qemu_plugin_id_t id, struct qemu_plugin_tb *tb)
{
    uint64_t address = qemu_plugin_tb_vaddr(tb);
    qemu_plugin_register_vcpu_tb_exec_inline(tb, QEMU_PLUGIN_INLINE_ADD_U64, &instructions,
                                             qemu_plugin_tb_n_insns(tb));
    if (address >> 47 == 0) {
        fprintf(file, "%llx %llx\n", (unsigned long long)instructions, (unsigned long long)address);
        fflush(file);
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
    return 0;
}
