/* h2load posts the same file with every request. Loaded before it (LD_PRELOAD), this deals out the next of many bodies
   of that length instead, so that each request asks about another shopper. h2load reads its file with pread alone, from
   offset 0 once for each request; see server/load/h2load.py. */
#include <fcntl.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

static const char *bodies;
static size_t body_bytes, n_bodies;
static atomic_size_t n_dealt;
/* The rest of a body that went out in two parts is that of the thread's latest one. */
static _Thread_local size_t dealt;

__attribute__((constructor)) static void open_bodies(void) {
    const char *name = getenv("STRATAGEM_BODIES"), *bytes = getenv("STRATAGEM_BODY_BYTES");
    struct stat found;
    int file = name ? open(name, O_RDONLY) : -1;
    if (file < 0 || !bytes || fstat(file, &found) != 0)
        return;
    body_bytes = strtoul(bytes, NULL, 10);
    n_bodies = body_bytes ? (size_t)found.st_size / body_bytes : 0;
    if (n_bodies) {
        void *mapped = mmap(NULL, n_bodies * body_bytes, PROT_READ, MAP_PRIVATE, file, 0);
        bodies = mapped == MAP_FAILED ? NULL : mapped;
    }
    close(file);
}

ssize_t pread(int file, void *into, size_t size, off_t at) {
    (void)file;
    if (!bodies || at < 0 || (size_t)at > body_bytes)
        return -1;
    if (at == 0)
        dealt = atomic_fetch_add(&n_dealt, 1) % n_bodies;
    size_t left = body_bytes - (size_t)at, taken = size < left ? size : left;
    memcpy(into, bodies + dealt * body_bytes + at, taken);
    return (ssize_t)taken;
}
