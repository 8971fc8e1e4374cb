/*
 * The first process of a test's own PID and mount namespaces: lets a container runtime create and start a container,
 * as a container manager does, and says what became of it. Everything that it starts ends with it.
 *
 *   init SECONDS BUNDLE CGROUP RUNTIME [GLOBAL OPTION...]
 *
 * It writes lines to standard output: `create CODE`, `start CODE` (exit codes of the runtime, 128 + the signal that
 * ended it), `exit CODE` or `signal NUMBER` for the container's first process, and `hung` when SECONDS are over first.
 * The runtime's words go to BUNDLE/log, those of the container to BUNDLE/out. Errors of its own go to standard error.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <unistd.h>

static const char *cgroup;
static volatile sig_atomic_t over;
/* How each process that this one is or became the parent of ended: its wait status, -1 where it did not. */
static int statuses[4096];

static void fail(const char *what)
{
    fprintf(stderr, "init: %s: %s\n", what, strerror(errno));
    exit(1);
}

/* Ends all processes of this namespace and removes the container's control group. */
static void clear(void)
{
    char path[4096];
    snprintf(path, sizeof path, "/sys/fs/cgroup/%s", cgroup);
    kill(-1, SIGKILL);
    while (waitpid(-1, NULL, 0) > 0 || errno == EINTR)
        ;
    for (int tries = 0; rmdir(path) != 0 && errno == EBUSY && tries < 1000; ++tries)
        usleep(1000);
    if (access(path, F_OK) == 0)
        fail(path);
}

/* Comes back until something looks: a wait that it does not interrupt is interrupted by the next. */
static void on_alarm(int signal)
{
    (void)signal;
    over = 1;
}

/* Waits for a process that is or will be a child of this one. Returns its wait status, or -1 if there is none. */
static int wait_for(pid_t wanted)
{
    if (wanted <= 0 || wanted >= (pid_t)(sizeof statuses / sizeof *statuses))
        return -1;
    while (statuses[wanted] == -1) {
        int status;
        pid_t ended = waitpid(-1, &status, 0);
        if (over) {
            printf("hung\n");
            clear();
            exit(0);
        }
        if (ended < 0 && errno != EINTR)
            return -1;
        if (ended > 0 && ended < (pid_t)(sizeof statuses / sizeof *statuses))
            statuses[ended] = status;
    }
    return statuses[wanted];
}

static int run(const char *verb, char *const *arguments)
{
    pid_t child = fork();
    if (child < 0)
        fail("fork");
    if (child == 0) {
        int out = open("out", O_WRONLY | O_CREAT | O_APPEND, 0666);
        int log = open("log", O_WRONLY | O_CREAT | O_APPEND, 0666);
        int null = open("/dev/null", O_RDONLY);
        if (out < 0 || log < 0 || null < 0 || dup2(null, 0) < 0 || dup2(out, 1) < 0 || dup2(log, 2) < 0)
            fail("the files of the container");
        close(null), close(out), close(log);
        execv(arguments[0], arguments);
        fail(arguments[0]);
    }
    int status = wait_for(child);
    int code = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
    printf("%s %d\n", verb, code);
    return code;
}

static pid_t read_pid(void)
{
    int pid = 0;
    FILE *file = fopen("/run/pid", "r");
    if (file) {
        if (fscanf(file, "%d", &pid) != 1)
            pid = 0;
        fclose(file);
    }
    return pid;
}

int main(int argc, char **argv)
{
    if (argc < 5) {
        fprintf(stderr, "usage: init SECONDS BUNDLE CGROUP RUNTIME [GLOBAL OPTION...]\n");
        return 2;
    }
    setvbuf(stdout, NULL, _IOLBF, 0);
    memset(statuses, 0xff, sizeof statuses);
    cgroup = argv[3];
    /* Runtimes keep state, and crun a cache of filters, beneath /run. One kind of control groups for all machines: the
       unified hierarchy can be mounted beside the older ones, too. */
    if (mount("run", "/run", "tmpfs", MS_NOSUID | MS_NODEV, "mode=755") != 0)
        fail("mount a tmpfs on /run");
    if (mount("cgroup2", "/sys/fs/cgroup", "cgroup2", MS_NOSUID | MS_NODEV | MS_NOEXEC, NULL) != 0)
        fail("mount cgroup2 on /sys/fs/cgroup");
    const struct rlimit none = {0, 0};
    if (mkdir("/run/state", 0700) != 0 || chdir(argv[2]) != 0 || setrlimit(RLIMIT_CORE, &none) != 0)
        fail(argv[2]);

    const struct sigaction action = {.sa_handler = on_alarm};
    sigaction(SIGALRM, &action, NULL);
    const struct itimerval timer = {.it_value = {.tv_sec = atoi(argv[1])}, .it_interval = {.tv_usec = 100000}};
    setitimer(ITIMER_REAL, &timer, NULL);

    int globals = argc - 4;
    char **arguments = calloc((size_t)globals + 12, sizeof *arguments);
    if (!arguments)
        fail("memory");
    memcpy(arguments, argv + 4, (size_t)globals * sizeof *arguments);
    char *const create[] = {"--root", "/run/state", "create", "--bundle", ".", "--pid-file", "/run/pid", "c", NULL};
    char *const start[] = {"--root", "/run/state", "start", "c", NULL};
    memcpy(arguments + globals, create, sizeof create);
    if (run("create", arguments) == 0) {
        memcpy(arguments + globals, start, sizeof start);
        if (run("start", arguments) == 0) {
            int status = wait_for(read_pid());
            if (status != -1 && WIFEXITED(status))
                printf("exit %d\n", WEXITSTATUS(status));
            else if (status != -1)
                printf("signal %d\n", WTERMSIG(status));
        }
    }
    clear();
    return 0;
}
