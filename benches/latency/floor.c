/* The floor of a test-load: compiles a profile with libseccomp and loads it, each time in a child, and nothing else.
 *
 * Arguments: how often, and a file with a word for each step and its numbers: "default ACTION", "arch NAME",
 * "rule ACTION CALL COUNT" with COUNT times "INDEX OPERATOR VALUE VALUE". Prints the nanoseconds of each run. */

#include <inttypes.h>
#include <seccomp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

struct step {
	char what[8], name[64];
	uint32_t action;
	unsigned count;
	struct scmp_arg_cmp args[6];
};

static struct step steps[8192];
static size_t length;

static void fail(const char *what)
{
	fprintf(stderr, "floor: %s\n", what);
	_exit(1);
}

static void read_steps(const char *path)
{
	FILE *file = fopen(path, "r");
	if (!file)
		fail(path);
	struct step *step = steps;
	while (fscanf(file, "%7s", step->what) == 1) {
		int is_whole = 1;
		if (!strcmp(step->what, "default"))
			is_whole = fscanf(file, "%" SCNu32, &step->action) == 1;
		else if (!strcmp(step->what, "arch"))
			is_whole = fscanf(file, "%63s", step->name) == 1;
		else
			is_whole = fscanf(file, "%" SCNu32 " %63s %u", &step->action, step->name, &step->count) == 3;
		if (!is_whole || step->count > 6)
			fail("a step that cannot be read");
		for (unsigned i = 0; i < step->count; i++) {
			unsigned index, operator;
			uint64_t one, two;
			if (fscanf(file, "%u %u %" SCNu64 " %" SCNu64, &index, &operator, &one, &two) != 4)
				fail("a condition that cannot be read");
			step->args[i] = SCMP_CMP(index, (enum scmp_compare)operator, one, two);
		}
		if (++length == sizeof(steps) / sizeof(*steps))
			fail("too many steps");
		step++;
	}
	fclose(file);
}

static void compile_and_load(void)
{
	scmp_filter_ctx filter = NULL;
	for (const struct step *step = steps; step < steps + length; step++) {
		int failed = 0;
		if (!strcmp(step->what, "default")) {
			filter = seccomp_init(step->action);
			failed = !filter;
		} else if (!strcmp(step->what, "arch")) {
			uint32_t arch = seccomp_arch_resolve_name(step->name);
			failed = seccomp_arch_exist(filter, arch) != 0 && seccomp_arch_add(filter, arch) != 0;
		} else {
			int call = seccomp_syscall_resolve_name(step->name);
			failed = call != __NR_SCMP_ERROR &&
				 seccomp_rule_add_array(filter, step->action, call, step->count, step->args) != 0;
		}
		if (failed)
			fail("libseccomp refuses a step");
	}
	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0 || seccomp_load(filter) != 0)
		fail("the kernel refuses the filter");
	_exit(0);
}

int main(int argc, char **argv)
{
	if (argc != 3)
		fail("floor RUNS FILE");
	read_steps(argv[2]);
	for (int run = 0; run < atoi(argv[1]); run++) {
		struct timespec began, ended;
		clock_gettime(CLOCK_MONOTONIC, &began);
		pid_t child = fork();
		if (child == 0)
			compile_and_load();
		int status;
		if (child < 0 || waitpid(child, &status, 0) != child || status != 0)
			fail("a child failed");
		clock_gettime(CLOCK_MONOTONIC, &ended);
		printf("%lld\n", (ended.tv_sec - began.tv_sec) * 1000000000LL + ended.tv_nsec - began.tv_nsec);
	}
	return 0;
}
