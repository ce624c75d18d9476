/* A disk that can be unplugged. Preloaded into a process (LD_PRELOAD), this library writes down every change that the
 * process makes below UNSYNCED_ROOT, and every sync, in UNSYNCED_LOG; replay.py makes from it what a power cut could
 * have left. What is written to stdout is written down in its place among them. A sync is noted, not done.
 *
 * It also is a disk that fills up: after `unsynced_space(n)` files may grow by n bytes in all (negative: no limit).
 *
 * A log entry: kind (1 byte), inode (8), offset or size (8), length of what follows (4), and that; native byte order.
 * Linux only. Changes through shared memory maps are not seen; SQLite makes them only to the -shm file, which it
 * rebuilds. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

enum { CREATE = 'C', FOLDER = 'D', WRITE = 'W', TRUNCATE = 'T', SYNC = 'S', RENAME = 'R', LINK = 'L', UNLINK = 'U', SAID = 'M' };

static char root[PATH_MAX];
static size_t root_length;
static int log_fd = -1;
static long long space = -1;
static pthread_mutex_t guard = PTHREAD_MUTEX_INITIALIZER; /* a change and its entry are one step */

__attribute__((constructor)) static void begin(void) {
    const char *directory = getenv("UNSYNCED_ROOT"), *log = getenv("UNSYNCED_LOG");
    if (!directory || !log) return;
    root_length = (size_t)snprintf(root, sizeof root, "%s", directory);
    log_fd = (int)syscall(SYS_openat, AT_FDCWD, log, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644);
}

void unsynced_space(long long bytes) {
    pthread_mutex_lock(&guard);
    space = bytes;
    pthread_mutex_unlock(&guard);
}

static void note(char kind, uint64_t inode, uint64_t offset, const void *data, size_t length) {
    char head[21];
    uint32_t short_length = (uint32_t)length;
    head[0] = kind;
    memcpy(head + 1, &inode, 8);
    memcpy(head + 9, &offset, 8);
    memcpy(head + 17, &short_length, 4);
    struct iovec parts[2] = {{head, sizeof head}, {(void *)data, length}};
    int before = errno;
    if (syscall(SYS_writev, log_fd, parts, 2) != (long)(sizeof head + length)) abort();
    errno = before;
}

static void note_path(char kind, const char *path, const char *other) {
    char both[2 * PATH_MAX];
    struct stat status = {0};
    stat(other ? other : path, &status);
    size_t length = strlen(path) + 1;
    memcpy(both, path, length);
    if (other) length += strlen(strcpy(both + length, other)) + 1;
    note(kind, status.st_ino, 0, both, length - 1);
}

static int inside(const char *path) {
    return log_fd >= 0 && !strncmp(path, root, root_length) && (path[root_length] == '/' || !path[root_length]);
}

/* The absolute path of a name, and whether it is below the root. */
static int resolve(int directory, const char *name, char *path) {
    char link[64];
    ssize_t length = 0;
    if (log_fd < 0) return 0;
    if (name[0] != '/') {
        snprintf(link, sizeof link, directory == AT_FDCWD ? "/proc/self/cwd" : "/proc/self/fd/%d", directory);
        length = readlink(link, path, PATH_MAX - 1);
        if (length < 0) return 0;
        path[length++] = '/';
    }
    snprintf(path + length, (size_t)(PATH_MAX - length), "%s", name);
    return inside(path);
}

static int watched(int fd, struct stat *status) {
    char link[64], path[PATH_MAX];
    if (log_fd < 0 || fd < 0) return 0;
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t length = readlink(link, path, sizeof path - 1);
    if (length < 0) return 0;
    path[length] = 0;
    return inside(path) && !fstat(fd, status);
}

/* How many of the bytes fit: only what makes a file longer takes space. */
static size_t fitting(const struct stat *status, off_t offset, size_t count) {
    long long growth = (long long)offset + (long long)count - (long long)status->st_size;
    if (space < 0 || growth <= 0) return count;
    long long refused = growth > space ? growth - space : 0;
    if (refused > (long long)count) refused = (long long)count;
    space -= growth > space ? space : growth;
    return count - (size_t)refused;
}

static ssize_t write_at(int fd, const void *data, size_t count, off_t offset) {
    struct stat status;
    if (!watched(fd, &status)) return syscall(SYS_pwrite64, fd, data, count, offset);
    pthread_mutex_lock(&guard);
    fstat(fd, &status);
    size_t fits = fitting(&status, offset, count);
    ssize_t done = -1;
    if (count && !fits)
        errno = ENOSPC;
    else
        done = syscall(SYS_pwrite64, fd, data, fits, offset);
    if (done > 0) note(WRITE, status.st_ino, (uint64_t)offset, data, (size_t)done);
    pthread_mutex_unlock(&guard);
    return done;
}

ssize_t write(int fd, const void *data, size_t count) {
    struct stat status;
    if (fd == STDOUT_FILENO && log_fd >= 0) {
        pthread_mutex_lock(&guard);
        note(SAID, 0, 0, data, count);
        pthread_mutex_unlock(&guard);
    }
    if (!watched(fd, &status)) return syscall(SYS_write, fd, data, count);
    off_t offset = fcntl(fd, F_GETFL) & O_APPEND ? status.st_size : lseek(fd, 0, SEEK_CUR);
    ssize_t done = write_at(fd, data, count, offset);
    if (done > 0) lseek(fd, offset + done, SEEK_SET);
    return done;
}

ssize_t pwrite(int fd, const void *data, size_t count, off_t offset) { return write_at(fd, data, count, offset); }
ssize_t pwrite64(int fd, const void *data, size_t count, off_t offset) { return write_at(fd, data, count, offset); }

ssize_t writev(int fd, const struct iovec *parts, int count) {
    struct stat status;
    if (!watched(fd, &status)) return syscall(SYS_writev, fd, parts, count);
    return count ? write(fd, parts[0].iov_base, parts[0].iov_len) : 0; /* a short write, which is allowed */
}

/* Refused, as by a file system that cannot: Python then reads and writes. */
ssize_t copy_file_range(int from, off_t *at, int to, off_t *to_at, size_t count, unsigned flags) {
    struct stat status;
    if (!watched(to, &status)) return syscall(SYS_copy_file_range, from, at, to, to_at, count, flags);
    errno = EXDEV;
    return -1;
}

ssize_t sendfile64(int to, int from, off_t *at, size_t count) {
    struct stat status;
    if (!watched(to, &status)) return syscall(SYS_sendfile, to, from, at, count);
    errno = EINVAL;
    return -1;
}

int ftruncate64(int fd, off_t size) {
    struct stat status;
    if (!watched(fd, &status)) return (int)syscall(SYS_ftruncate, fd, size);
    pthread_mutex_lock(&guard);
    int result = (int)syscall(SYS_ftruncate, fd, size);
    if (!result) note(TRUNCATE, status.st_ino, (uint64_t)size, "", 0);
    pthread_mutex_unlock(&guard);
    return result;
}
int ftruncate(int fd, off_t size) { return ftruncate64(fd, size); }

static int sync_file(int fd, long call) {
    struct stat status;
    if (!watched(fd, &status)) return (int)syscall(call, fd);
    pthread_mutex_lock(&guard);
    note(SYNC, status.st_ino, 0, "", 0);
    pthread_mutex_unlock(&guard);
    return 0;
}
int fsync(int fd) { return sync_file(fd, SYS_fsync); }
int fdatasync(int fd) { return sync_file(fd, SYS_fdatasync); }

static int open_at(int directory, const char *name, int flags, mode_t mode) {
    char path[PATH_MAX];
    struct stat status;
    if (!(flags & (O_CREAT | O_TRUNC)) || !resolve(directory, name, path))
        return (int)syscall(SYS_openat, directory, name, flags, mode);
    pthread_mutex_lock(&guard);
    int there = !stat(path, &status);
    int fd = (int)syscall(SYS_openat, directory, name, flags, mode);
    if (fd >= 0 && !there) note_path(CREATE, path, NULL);
    if (fd >= 0 && there && flags & O_TRUNC) note(TRUNCATE, status.st_ino, 0, "", 0);
    pthread_mutex_unlock(&guard);
    return fd;
}

#define MODE_OF(flags, mode) \
    mode_t mode = 0; \
    if (flags & (O_CREAT | __O_TMPFILE)) { \
        va_list rest; \
        va_start(rest, flags); \
        mode = va_arg(rest, mode_t); \
        va_end(rest); \
    }
int open(const char *name, int flags, ...) { MODE_OF(flags, mode) return open_at(AT_FDCWD, name, flags, mode); }
int open64(const char *name, int flags, ...) { MODE_OF(flags, mode) return open_at(AT_FDCWD, name, flags | O_LARGEFILE, mode); }
int openat(int at, const char *name, int flags, ...) { MODE_OF(flags, mode) return open_at(at, name, flags, mode); }
int openat64(int at, const char *name, int flags, ...) { MODE_OF(flags, mode) return open_at(at, name, flags | O_LARGEFILE, mode); }

int mkdirat(int directory, const char *name, mode_t mode) {
    char path[PATH_MAX];
    if (!resolve(directory, name, path)) return (int)syscall(SYS_mkdirat, directory, name, mode);
    pthread_mutex_lock(&guard);
    int result = -1;
    if (!space)
        errno = ENOSPC;
    else if (!(result = (int)syscall(SYS_mkdirat, directory, name, mode)))
        note_path(FOLDER, path, NULL);
    pthread_mutex_unlock(&guard);
    return result;
}
int mkdir(const char *name, mode_t mode) { return mkdirat(AT_FDCWD, name, mode); }

int unlinkat(int directory, const char *name, int flags) {
    char path[PATH_MAX];
    if (!resolve(directory, name, path)) return (int)syscall(SYS_unlinkat, directory, name, flags);
    pthread_mutex_lock(&guard);
    int result = (int)syscall(SYS_unlinkat, directory, name, flags);
    if (!result) note_path(UNLINK, path, NULL);
    pthread_mutex_unlock(&guard);
    return result;
}
int unlink(const char *name) { return unlinkat(AT_FDCWD, name, 0); }
int rmdir(const char *name) { return unlinkat(AT_FDCWD, name, AT_REMOVEDIR); }

/* Names that come into the root or leave it are not for this: abort rather than lie. */
static int two_names(char kind, int from, const char *old, int to, const char *new) {
    char path[PATH_MAX], other[PATH_MAX];
    long call = kind == RENAME ? SYS_renameat2 : SYS_linkat;
    int old_inside = resolve(from, old, path), new_inside = resolve(to, new, other);
    if (!old_inside && !new_inside) return (int)syscall(call, from, old, to, new, 0);
    if (!old_inside || !new_inside) abort();
    pthread_mutex_lock(&guard);
    int result = (int)syscall(call, from, old, to, new, 0);
    if (!result) note_path(kind, path, other);
    pthread_mutex_unlock(&guard);
    return result;
}
int renameat(int from, const char *old, int to, const char *new) { return two_names(RENAME, from, old, to, new); }
int rename(const char *old, const char *new) { return two_names(RENAME, AT_FDCWD, old, AT_FDCWD, new); }
int linkat(int from, const char *old, int to, const char *new, int flags) { (void)flags; return two_names(LINK, from, old, to, new); }
int link(const char *old, const char *new) { return two_names(LINK, AT_FDCWD, old, AT_FDCWD, new); }
