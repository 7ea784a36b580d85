/* Makes the n-th change below some folders fail, or ends the process there: preloaded by tests.
 *
 * W2S_FAULT_ROOTS  folders, with colons between; changes elsewhere are let through and not counted
 * W2S_FAULT_LOG    file that gets a line for each change: its number, the call, the path
 * W2S_FAULT_AT     number of the change, from 1
 * W2S_FAULT_KIND   error   the call fails with EIO, once
 *                  full    half is written, and every later change that needs space fails: ENOSPC
 *                  short   half is written, which is no error
 *                  kill    the process ends before the call
 *                  torn    half is written, then the process ends
 *                  locks   (without a number) flock fails with ENOLCK
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static long count, at;
static int is_full;
static const char *kind, *roots;
static int log_fd = -1;

__attribute__((constructor)) static void begin(void) {
    const char *number = getenv("W2S_FAULT_AT"), *path = getenv("W2S_FAULT_LOG");
    roots = getenv("W2S_FAULT_ROOTS");
    kind = getenv("W2S_FAULT_KIND");
    if (!kind) kind = "";
    at = number ? atol(number) : 0;
    /* Truncated: the program starts itself again, and the second start counts. */
    if (path) log_fd = syscall(SYS_openat, AT_FDCWD, path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_APPEND, 0644);
}

static int is_below(const char *path) {
    const char *root = roots;
    while (root && *root) {
        size_t length = strcspn(root, ":");
        if (strncmp(path, root, length) == 0 && (path[length] == '/' || path[length] == 0)) return 1;
        root += length + (root[length] == ':');
    }
    return 0;
}

static int is(const char *name) { return strcmp(kind, name) == 0; }

/* What is to become of a change. */
enum { GO = 0, FAIL = 1, HALF = 2, HALF_THEN_DIE = 3 };

static int change(const char *call, const char *path, int needs_space, int writes) {
    char whole[PATH_MAX];
    int saved = errno, fate = GO;
    if (!roots || !path) return GO;
    if (path[0] != '/') {
        char folder[PATH_MAX / 2];
        if (!getcwd(folder, sizeof folder)) return GO;
        snprintf(whole, sizeof whole, "%s/%s", folder, path);
        path = whole;
    }
    if (!is_below(path)) {
        errno = saved;
        return GO;
    }
    pthread_mutex_lock(&lock);
    long n = ++count;
    if (log_fd >= 0) {
        char line[PATH_MAX + 64];
        int length = snprintf(line, sizeof line, "%ld %s %s\n", n, call, path);
        syscall(SYS_write, log_fd, line, (size_t)length);
    }
    if (at && n == at) {
        if (is("kill") || (is("torn") && !writes)) syscall(SYS_exit_group, 137);
        if (is("torn")) fate = HALF_THEN_DIE;
        if (is("short") && writes) fate = HALF;
        if (is("error")) fate = FAIL, errno = EIO, saved = EIO;
        if (is("full") && needs_space) {
            is_full = 1;
            fate = writes ? HALF : FAIL;
            saved = ENOSPC;
        }
        if (is("full") && !needs_space) is_full = 1;
    } else if (is_full && needs_space) {
        fate = FAIL, saved = ENOSPC;
    }
    pthread_mutex_unlock(&lock);
    errno = saved;
    return fate;
}

static int change_fd(const char *call, int fd, int needs_space, int writes) {
    char link[64], path[PATH_MAX];
    int saved = errno;
    if (!roots) return GO;
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t length = readlink(link, path, sizeof path - 1);
    errno = saved;
    /* Pipes and sockets have names without a folder. */
    if (length <= 0 || path[0] != '/') return GO;
    path[length] = 0;
    return change(call, path, needs_space, writes);
}


static int writes_flags(int flags) {
    return (flags & O_ACCMODE) != O_RDONLY || (flags & (O_CREAT | O_TRUNC));
}

#define MODE \
    mode_t mode = 0; \
    if (flags & (O_CREAT | O_TMPFILE)) { \
        va_list rest; \
        va_start(rest, flags); \
        mode = va_arg(rest, mode_t); \
        va_end(rest); \
    }

int open(const char *path, int flags, ...) {
    MODE
    if (writes_flags(flags) && change("open", path, 1, 0)) return -1;
    return syscall(SYS_openat, AT_FDCWD, path, flags, mode);
}
int open64(const char *path, int flags, ...) {
    MODE
    if (writes_flags(flags) && change("open", path, 1, 0)) return -1;
    return syscall(SYS_openat, AT_FDCWD, path, flags | O_LARGEFILE, mode);
}
int openat(int folder, const char *path, int flags, ...) {
    MODE
    if (writes_flags(flags) && change("open", path, 1, 0)) return -1;
    return syscall(SYS_openat, folder, path, flags, mode);
}
int openat64(int folder, const char *path, int flags, ...) {
    MODE
    if (writes_flags(flags) && change("open", path, 1, 0)) return -1;
    return syscall(SYS_openat, folder, path, flags | O_LARGEFILE, mode);
}

/* A half that is nothing would be no write at all. */
static size_t half(size_t size, int fate) { return fate >= HALF && size > 1 ? size / 2 : size; }

ssize_t write(int fd, const void *data, size_t size) {
    int fate = change_fd("write", fd, 1, 1);
    if (fate == FAIL) return -1;
    ssize_t done = syscall(SYS_write, fd, data, half(size, fate));
    if (fate == HALF_THEN_DIE) syscall(SYS_exit_group, 137);
    return done;
}
ssize_t writev(int fd, const struct iovec *parts, int num) {
    int fate = change_fd("write", fd, 1, 1);
    if (fate == FAIL) return -1;
    if (fate >= HALF && num > 0) {
        ssize_t done = syscall(SYS_write, fd, parts[0].iov_base, half(parts[0].iov_len, fate));
        if (fate == HALF_THEN_DIE) syscall(SYS_exit_group, 137);
        return done;
    }
    return syscall(SYS_writev, fd, parts, num);
}
static ssize_t write_at(int fd, const void *data, size_t size, off_t place) {
    int fate = change_fd("pwrite", fd, 1, 1);
    if (fate == FAIL) return -1;
    ssize_t done = syscall(SYS_pwrite64, fd, data, half(size, fate), place);
    if (fate == HALF_THEN_DIE) syscall(SYS_exit_group, 137);
    return done;
}
ssize_t pwrite(int fd, const void *data, size_t size, off_t place) { return write_at(fd, data, size, place); }
ssize_t pwrite64(int fd, const void *data, size_t size, off64_t place) { return write_at(fd, data, size, place); }
ssize_t copy_file_range(int in, off64_t *from, int out, off64_t *to, size_t size, unsigned flags) {
    if (change_fd("copy", out, 1, 0)) return -1;
    return syscall(SYS_copy_file_range, in, from, out, to, size, flags);
}
ssize_t sendfile(int out, int in, off_t *from, size_t size) {
    if (change_fd("copy", out, 1, 0)) return -1;
    return syscall(SYS_sendfile, out, in, from, size);
}
ssize_t sendfile64(int out, int in, off64_t *from, size_t size) {
    if (change_fd("copy", out, 1, 0)) return -1;
    return syscall(SYS_sendfile, out, in, from, size);
}
int fsync(int fd) { return change_fd("fsync", fd, 0, 0) ? -1 : (int)syscall(SYS_fsync, fd); }
int fdatasync(int fd) { return change_fd("fsync", fd, 0, 0) ? -1 : (int)syscall(SYS_fdatasync, fd); }
int ftruncate(int fd, off_t size) { return change_fd("truncate", fd, 1, 0) ? -1 : (int)syscall(SYS_ftruncate, fd, size); }
int ftruncate64(int fd, off64_t size) { return change_fd("truncate", fd, 1, 0) ? -1 : (int)syscall(SYS_ftruncate, fd, size); }
int rename(const char *from, const char *to) {
    return change("rename", to, 0, 0) ? -1 : (int)syscall(SYS_renameat2, AT_FDCWD, from, AT_FDCWD, to, 0);
}
int renameat(int a, const char *from, int b, const char *to) {
    return change("rename", to, 0, 0) ? -1 : (int)syscall(SYS_renameat2, a, from, b, to, 0);
}
int unlink(const char *path) { return change("unlink", path, 0, 0) ? -1 : (int)syscall(SYS_unlinkat, AT_FDCWD, path, 0); }
int unlinkat(int folder, const char *path, int flags) {
    return change("unlink", path, 0, 0) ? -1 : (int)syscall(SYS_unlinkat, folder, path, flags);
}
int rmdir(const char *path) {
    return change("rmdir", path, 0, 0) ? -1 : (int)syscall(SYS_unlinkat, AT_FDCWD, path, AT_REMOVEDIR);
}
int mkdir(const char *path, mode_t mode) {
    return change("mkdir", path, 1, 0) ? -1 : (int)syscall(SYS_mkdirat, AT_FDCWD, path, mode);
}
int flock(int fd, int operation) {
    if (is("locks") && roots) {
        char link[64], path[PATH_MAX];
        snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
        ssize_t length = readlink(link, path, sizeof path - 1);
        if (length > 0) {
            path[length] = 0;
            if (is_below(path)) {
                errno = ENOLCK;
                return -1;
            }
        }
    }
    return syscall(SYS_flock, fd, operation);
}
