// How jemalloc is to behave; linked into every program that has it for its allocator. Read at its start, before the
// environment's MALLOC_CONF.
//
// What was freed goes back to the system after a second, no longer ten: a drain takes a tenth to a fifth less memory
// so, and as much time. Threads keep blocks of up to 64 KiB at hand, no longer 32: lz4 wants a zeroed one of that size
// for each request, and one that no thread has at hand jemalloc zeroes by giving its pages back to the system
// (ehooks_default_zero_impl in its source), which then has to find sixteen others.
extern "C" const char* malloc_conf;
const char* malloc_conf = "dirty_decay_ms:1000,lg_tcache_max:16";
