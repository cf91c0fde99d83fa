/* tools/vm/xstate.c: lets user-mode Linux 6.1 run on processors whose register file is larger than
 * its kernel was built for (AMX: 11 kB). Loaded into it by tools/vm/run (LD_PRELOAD).
 *
 * The kernel keeps the registers of its guests' processes with PTRACE_GETREGSET and PTRACE_SETREGSET
 * of NT_X86_XSTATE, in 2.7 kB. Reading less than there is works; writing less is refused (EFAULT),
 * upon which its init dies. Here a write takes what the host has, puts the caller's part over its
 * start, which holds everything up to AVX-512 and PKRU, and writes it whole. The rest is AMX's tiles,
 * which a process has only once it has asked for them by arch_prctl(2), and no guest does. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <elf.h>
#include <stdarg.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/types.h>
#include <sys/uio.h>

/* Larger than any processor's. */
#define ROOM 65536

long ptrace(enum __ptrace_request request, ...)
{
	static long (*real)(enum __ptrace_request, ...);
	/* One thread of the guest's kernel makes all calls. */
	static char whole[ROOM];
	struct iovec all = { whole, ROOM };
	va_list arguments;
	va_start(arguments, request);
	pid_t pid = va_arg(arguments, pid_t);
	void *address = va_arg(arguments, void *);
	void *data = va_arg(arguments, void *);
	va_end(arguments);

	if (!real)
		real = (long (*)(enum __ptrace_request, ...))dlsym(RTLD_NEXT, "ptrace");
	if (request != PTRACE_SETREGSET || (size_t)address != NT_X86_XSTATE)
		return real(request, pid, address, data);
	struct iovec *part = data;
	if (real(PTRACE_GETREGSET, pid, address, &all) || all.iov_len <= part->iov_len)
		return real(request, pid, address, data);
	memcpy(whole, part->iov_base, part->iov_len);
	return real(request, pid, address, &all);
}
