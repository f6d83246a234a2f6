"""A row that ends every process that touches it is found and isolated. The crash is planted by a preloaded library."""
import subprocess

import pytest

from harness.verifier import assert_nothing_lost
from harness.waiting import eventually

# Aborts when a header's value asks for it: as a defect in a library would, on one row of many.
_TRAP = r"""
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdlib.h>
#include <string.h>
#include <sys/types.h>

typedef int (*header_add)(void *, const char *, ssize_t, const void *, ssize_t);

int rd_kafka_header_add(void *headers, const char *name, ssize_t name_size, const void *value, ssize_t value_size) {
    static header_add real;
    if (!real) real = (header_add)dlsym(RTLD_NEXT, "rd_kafka_header_add");
    if (value && value_size == 6 && memcmp(value, "deadly", 6) == 0) abort();
    return real(headers, name, name_size, value, value_size);
}
"""


@pytest.fixture(scope="module")
def trap(tmp_path_factory):
    directory = tmp_path_factory.mktemp("trap")
    (directory / "trap.c").write_text(_TRAP)
    library = directory / "trap.so"
    subprocess.run(["cc", "-shared", "-fPIC", "-O1", "-o", library, directory / "trap.c", "-ldl"], check=True)
    return library


def test_a_row_that_ends_every_process_is_isolated_and_the_others_are_delivered(database, topic, relay, consumer, trap):
    writer = database.writer()
    writer.insert_many([(topic, f"k{n % 20}", b"%d" % n, None) for n in range(300)])
    writer.commit()
    harmless = list(writer.committed)
    deadly = writer.publish(topic, "k3", b"x", {"h": "deadly"})
    writer.insert_many([(topic, f"k{n % 20}", b"%d" % n, None) for n in range(300, 600)])
    writer.commit()
    harmless += writer.committed[301:]

    one = relay({"relay": {"lease_ttl": "1s"}})
    crashes = 0
    one.start(environment={"LD_PRELOAD": str(trap)})
    while True:
        eventually(lambda: not one.running() or database.backlog() == 0, 60, "the relay has died, or is done")
        if one.running():
            break
        crashes += 1
        assert crashes <= 10, one.log_text()[-3000:]
        one.start(environment={"LD_PRELOAD": str(trap)})
    assert crashes >= 3
    assert one.log(event="crash_loop")
    assert [line["message_id"] for line in one.log(event="row_isolated")] == [deadly.id]
    dead = database.execute("SELECT event_id::text, error_code FROM outbox.dead_letter")
    assert dead == [(deadly.event_id, "RELAY_CRASHED")]
    eventually(lambda: one.log(event="crash_loop_over"), 30, "full speed again")
    assert_nothing_lost(harmless, consumer.read(topic))
    assert one.stop() == 0
