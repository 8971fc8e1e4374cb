/* The first process of a pod's sandbox: waits until it is told to end, and buries what becomes its child. */
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

static void end(int signal)
{
    (void)signal;
    _exit(0);
}

static void bury(int signal)
{
    (void)signal;
    while (waitpid(-1, 0, WNOHANG) > 0)
        ;
}

int main(void)
{
    const struct sigaction ends = {.sa_handler = end};
    const struct sigaction buries = {.sa_handler = bury, .sa_flags = SA_NOCLDSTOP};
    sigaction(SIGTERM, &ends, 0);
    sigaction(SIGINT, &ends, 0);
    sigaction(SIGCHLD, &buries, 0);
    for (;;)
        pause();
}
