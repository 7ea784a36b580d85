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
 * W2S_FAULT_SERVE  if set, the program waits before its main function, when libraries are loaded, and runs
 *                  once, in a process of its own, for each line "NUMBER KIND FOLDER" that comes in; with
 *                  number 0 without a fault. Its words go to FOLDER.out and FOLDER.err, its changes to
 *                  FOLDER.log, and its status, as of wait(2), is answered.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static long count, at;
static int is_full;
static const char *kind, *roots;
static int log_fd = -1;

static void begin_here(void) {
    const char *number = getenv("W2S_FAULT_AT"), *path = getenv("W2S_FAULT_LOG");
    roots = getenv("W2S_FAULT_ROOTS");
    kind = getenv("W2S_FAULT_KIND");
    if (!kind) kind = "";
    at = number ? atol(number) : 0;
    /* Truncated: the program starts itself again, and the second start counts. */
    if (path) log_fd = syscall(SYS_openat, AT_FDCWD, path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_APPEND, 0644);
}

__attribute__((constructor)) static void begin(void) {
    if (!getenv("W2S_FAULT_SERVE")) begin_here();
}

/* A file that becomes a descriptor of the process. */
static void becomes(int fd, const char *folder, const char *ending, int flags) {
    char path[PATH_MAX];
    snprintf(path, sizeof path, "%s%s", folder, ending);
    int file = syscall(SYS_openat, AT_FDCWD, path, flags, 0644);
    if (file < 0 || dup2(file, fd) < 0) _exit(125);
    close(file);
}

static void set(const char *name, const char *folder, const char *ending) {
    char text[PATH_MAX];
    snprintf(text, sizeof text, "%s%s", folder, ending);
    setenv(name, text, 1);
}

/* The longest that a run may take, in seconds. */
#define LONGEST 120

/* Runs until there are no more lines; returns in the process of each run. */
static void serve(void) {
    char line[PATH_MAX + 64], name[16], number[32], folder[PATH_MAX];
    while (fgets(line, sizeof line, stdin)) {
        if (sscanf(line, "%31s %15s %4095[^\n]", number, name, folder) != 3) _exit(125);
        pid_t child = fork();
        if (child == 0) {
            unsetenv("W2S_FAULT_SERVE");
            if (atol(number)) {
                setenv("W2S_FAULT_KIND", name, 1);
                setenv("W2S_FAULT_AT", number, 1);
            }
            set("W2S_FAULT_ROOTS", folder, "");
            set("W2S_FAULT_LOG", folder, ".log");
            set("XDG_CACHE_HOME", folder, "/cache");
            if (chdir(folder)) _exit(125);
            becomes(0, "/dev/null", "", O_RDONLY);
            becomes(1, folder, ".out", O_WRONLY | O_CREAT | O_TRUNC);
            becomes(2, folder, ".err", O_WRONLY | O_CREAT | O_TRUNC);
            begin_here();
            return;
        }
        int status = 0;
        struct timespec pause = { 0, 1000000 };
        time_t begun = time(NULL);
        while (waitpid(child, &status, WNOHANG) == 0) {
            if (time(NULL) - begun > LONGEST) kill(child, SIGKILL);
            nanosleep(&pause, NULL);
        }
        printf("%d\n", status);
        fflush(stdout);
    }
    _exit(0);
}

static int (*program)(int, char **, char **);

static int serve_then_program(int argc, char **argv, char **envp) {
    if (getenv("W2S_FAULT_SERVE")) serve();
    (void)envp;
    return program(argc, argv, environ);
}

int __libc_start_main(int (*start)(int, char **, char **), int argc, char **argv, void (*init)(void),
                      void (*fini)(void), void (*loader_fini)(void), void *stack) {
    int (*real)(int (*)(int, char **, char **), int, char **, void (*)(void), void (*)(void), void (*)(void), void *) =
        dlsym(RTLD_NEXT, "__libc_start_main");
    program = start;
    return real(serve_then_program, argc, argv, init, fini, loader_fini, stack);
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
