/*
 * The only program in a container of the tests: makes the system calls that its arguments list, and writes what each
 * returned. It makes no others: its code needs no C library, and it ends by an illegal instruction (SIGILL), which
 * shows that it ran even where the profile denies everything.
 *
 * An argument is ABI:NUMBER:ARG0,ARG1,...,ARG5, all numbers hexadecimal, missing ones 0. ABI is `x` (x86-64, and x32 by
 * its numbers) or `i` (int 0x80, i386). Per call it writes a line to standard output: the result as sixteen hexadecimal
 * digits. The argument `h` writes the line `h`: the program runs.
 */
typedef unsigned long word;

#ifndef __x86_64__
#error "the probe knows x86-64 only"
#endif

enum { WRITE = 1 };

static word call(word number, const word *a)
{
    register word r10 __asm__("r10") = a[3];
    register word r8 __asm__("r8") = a[4];
    register word r9 __asm__("r9") = a[5];
    word result;
    __asm__ volatile("syscall"
                     : "=a"(result)
                     : "a"(number), "D"(a[0]), "S"(a[1]), "d"(a[2]), "r"(r10), "r"(r8), "r"(r9)
                     : "rcx", "r11", "memory");
    return result;
}

static word call_i386(word number, const word *a)
{
    word result;
    /* The sixth argument travels in the frame pointer, which no operand may name. */
    __asm__ volatile("push %%rbp\n\tmov %[sixth], %%rbp\n\tint $0x80\n\tpop %%rbp"
                     : "=a"(result)
                     : "a"(number), "b"(a[0]), "c"(a[1]), "d"(a[2]), "S"(a[3]), "D"(a[4]), [sixth] "r"(a[5])
                     : "r8", "r9", "r10", "r11", "memory");
    return (word)(long)(int)result;
}

static void end(void)
{
    __asm__ volatile("ud2");
}

__asm__(".globl _start\n_start:\n\tmov %rsp, %rdi\n\tand $-16, %rsp\n\tcall probe\n");

static void write_out(const char *text, word length)
{
    word arguments[6] = {1, (word)text, length};
    call(WRITE, arguments);
}

static void write_number(word value)
{
    char line[17];
    for (int digit = 0; digit < 16; ++digit)
        line[digit] = "0123456789abcdef"[value >> (60 - 4 * digit) & 15];
    line[16] = '\n';
    write_out(line, sizeof line);
}

static word number(const char **text)
{
    word value = 0;
    for (;; ++*text) {
        char c = **text;
        if (c >= '0' && c <= '9')
            value = value << 4 | (word)(c - '0');
        else if (c >= 'a' && c <= 'f')
            value = value << 4 | (word)(c - 'a' + 10);
        else
            return value;
    }
}

__attribute__((used, noreturn)) void probe(const word *stack)
{
    const char *const *argument = (const char *const *)(stack + 2);
    for (; *argument; ++argument) {
        const char *text = *argument;
        char abi = *text++;
        word arguments[6] = {0};
        if (abi == 'h') {
            write_out("h\n", 2);
            continue;
        }
        ++text;
        word nr = number(&text);
        for (int i = 0; i < 6 && *text; ++i) {
            ++text;
            arguments[i] = number(&text);
        }
        write_number(abi == 'i' ? call_i386(nr, arguments) : call(nr, arguments));
    }
    for (;;)
        end();
}
