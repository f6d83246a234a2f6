#!/usr/bin/env bash
# Holds the dependency rule of src/README.md: what each folder of src/ may include and use.
#   tests/layering.sh               checks src/
#   tests/layering.sh --self-test   plants one violation of every rule in a copy of src/ and sees each of them caught
set -euo pipefail

root=$(cd "$(dirname "$0")/.." && pwd)
status=0

report() {  # report RULE FINDINGS
    if [ -n "$2" ]; then
        echo "layering: $1:"
        # shellcheck disable=SC2001  # every line, not the first
        sed 's/^/    /' <<<"$2"
        status=1
    fi
}

# Every line of every source below the current directory as FILE:LINE:TEXT, without // comments: they may name anything.
code() {
    find . -type f \( -name '*.hpp' -o -name '*.cpp' -o -name '*.h' \) -printf '%P\n' | sort |
        xargs -r -d '\n' grep -nH '' | sed -E 's@^(([^:]*:){2})(.*[^:"])?//.*$@\1\3@'
}

only_in() {  # only_in FOLDERS PATTERN WHAT: FOLDERS is an alternation of path prefixes
    report "$3 belong in $1 only" "$(grep -E "^[^:]*:[0-9]+:.*($2)" <<<"$lines" | grep -vE "^($1)" || true)"
}

may_include() {  # may_include FOLDER ALLOWED: what is left of its quoted includes must be nothing
    report "$1/ may include $2 only" \
        "$(grep -E "^$1/[^:]*:[0-9]+:\s*#\s*include\s*\"" <<<"$lines" | grep -vE "\"($2)" || true)"
}

check() {  # check SRC
    cd "$1"
    local lines
    lines=$(code)

    only_in 'postgres/' 'include\s*[<"](postgresql/)?(libpq|pq|postgres_)' 'libpq'
    only_in 'kafka/' 'include\s*[<"](librdkafka/|rdkafka)' 'librdkafka'
    only_in 'telemetry/' 'include\s*[<"](prometheus|spdlog|fmt|civetweb|CivetServer)' 'prometheus-cpp, civetweb and spdlog'
    only_in 'config/' 'include\s*[<"]toml' 'toml++'
    only_in 'app/' '_clock::now|clock_gettime|gettimeofday|\<time\((NULL|nullptr|0)\)' 'Clocks'
    only_in 'app/' 'sleep_(for|until)|\<(u|nano|clock_nano)?sleep\(' 'Sleeps'
    only_in 'app/' 'std::(j?thread|async|condition_variable)\>|\<pthread_create|include\s*<(thread|future)>' 'Threads'
    # spdlog's base class for sinks takes its lock as a parameter.
    only_in 'app/|telemetry/' 'std::(\w+_)?mutex\>|include\s*<(shared_)?mutex>' 'Locks'
    only_in 'app/' 'std::(random_device|mt19937)|\<(getrandom|getentropy|rand)\(' 'Random numbers'
    only_in 'app/' '\<(sigaction|signalfd|sigprocmask|pthread_sigmask|sd_notify)\>' 'Signals and sd_notify'
    only_in 'commands/|main\.cpp:' 'std::cout\>|\<(printf|puts|fprintf\(stdout)' 'Lines on the standard output'

    may_include core 'core/'
    may_include postgres 'postgres/|core/'
    may_include kafka 'kafka/|core/'
    may_include telemetry 'telemetry/|core/'
    may_include config 'config/|core/|[a-z]+/settings\.hpp"'
    may_include app 'app/|postgres/|kafka/|telemetry/|core/'
    may_include commands '(commands|app|config|postgres|kafka|telemetry|core)/'
    report 'an include names its folder' \
        "$(grep -E ':\s*#\s*include\s*"' <<<"$lines" | grep -vE '"[a-z]+/[a-z_/]+\.hpp"' || true)"
    report 'core/ may include the standard library only' \
        "$(grep -E '^core/[^:]*:[0-9]+:\s*#\s*include\s*<' <<<"$lines" | grep -vE '<[a-z_]+>' || true)"
    report 'open ends (TODO, FIXME) are not committed' "$(grep -rnE 'TODO|FIXME' . || true)"
}

# One violation a line: the file to add it to, the text, the words the report must hold.
violations() {
    cat <<'PLANTED'
core/planted.cpp|#include <libpq-fe.h>|libpq belong in postgres/
kafka/planted.hpp|#include <libpq-fe.h>|libpq belong in postgres/
app/planted.cpp|#include <postgresql/libpq-fe.h>|libpq belong in postgres/
postgres/planted.cpp|#include <librdkafka/rdkafka.h>|librdkafka belong in kafka/
app/planted.cpp|#include <prometheus/counter.h>|belong in telemetry/
commands/planted.cpp|#include <spdlog/spdlog.h>|belong in telemetry/
kafka/planted.cpp|#include <civetweb.h>|belong in telemetry/
app/planted.cpp|#include <toml++/toml.h>|toml++ belong in config/
core/planted.cpp|auto now = std::chrono::steady_clock::now();|Clocks belong in app/
postgres/planted.cpp|    clock_gettime(CLOCK_BOOTTIME, &now);|Clocks belong in app/
kafka/planted.cpp|std::this_thread::sleep_for(1ms);|Sleeps belong in app/
telemetry/planted.cpp|    usleep(1000);|Sleeps belong in app/
core/planted.cpp|    std::jthread worker;|Threads belong in app/
kafka/planted.cpp|#include <mutex>|Locks belong in app/
core/planted.cpp|    std::random_device seed;|Random numbers belong in app/
telemetry/planted.cpp|    sigaction(SIGTERM, &action, nullptr);|Signals and sd_notify belong in app/
core/planted.cpp|    std::cout << "here";|Lines on the standard output belong in commands/
app/planted.cpp|    printf("here");|Lines on the standard output belong in commands/
core/planted.hpp|#include "kafka/producer.hpp"|core/ may include
core/planted.hpp|#  include "config/config.hpp"|core/ may include
postgres/planted.cpp|#include "kafka/producer.hpp"|postgres/ may include
postgres/planted.cpp|#include "telemetry/metrics.hpp"|postgres/ may include
kafka/planted.cpp|#include "postgres/session.hpp"|kafka/ may include
kafka/planted.cpp|#include "app/worker.hpp"|kafka/ may include
telemetry/planted.cpp|#include "kafka/producer.hpp"|telemetry/ may include
config/planted.cpp|#include "kafka/producer.hpp"|config/ may include
config/planted.cpp|#include "app/worker.hpp"|config/ may include
app/planted.cpp|#include "config/config.hpp"|app/ may include
app/planted.cpp|#include "commands/run.hpp"|app/ may include
core/deep/planted.hpp|#include "../kafka/producer.hpp"|core/ may include
commands/planted.cpp|#include "session.hpp"|an include names its folder
core/planted.cpp|#include <sys/socket.h>|the standard library only
core/planted.cpp|#include <boost/optional.hpp>|the standard library only
app/planted.cpp|// TODO: later|open ends
PLANTED
}

allowed() {
    cat <<'PLANTED'
postgres/planted.cpp|#include <libpq-fe.h>
kafka/planted.cpp|#include <librdkafka/rdkafka.h>
telemetry/planted.cpp|#include <spdlog/spdlog.h>
config/planted.cpp|#include "kafka/settings.hpp"
app/planted.cpp|#include "postgres/session.hpp"
app/planted.cpp|std::this_thread::sleep_for(1ms);
commands/planted.cpp|#include "app/daemon.hpp"
commands/planted.cpp|std::cout << "done";
core/planted.cpp|int x = 1;  // never std::cout, never clock_gettime(), never #include <libpq-fe.h>
core/planted.cpp|#include <vector>
PLANTED
}

self_test() {
    local work passed=0 failed=0 file text words output
    work=$(mktemp -d)
    # shellcheck disable=SC2064  # the name as it is now
    trap "rm -rf '$work'" EXIT
    plant() {
        rm -rf "$work/src"
        cp -r "$root/src" "$work/src"
        mkdir -p "$work/src/$(dirname "$file")"
        printf '%s\n' "$text" >>"$work/src/$file"
        output=$(check "$work/src"; exit "$status") && return 0
        return 1
    }
    judge() {  # judge RESULT DESCRIPTION
        if [ "$1" = ok ]; then passed=$((passed + 1)); else failed=$((failed + 1)); echo "layering self-test: $2"; fi
    }
    while IFS='|' read -r file text words; do
        if ! plant && grep -qF -- "$words" <<<"$output" && grep -qF -- "$file" <<<"$output"; then judge ok; else
            judge bad "not caught: $file: $text"
        fi
    done < <(violations)
    while IFS='|' read -r file text; do
        if plant || ! grep -qF -- "$file" <<<"$output"; then judge ok; else judge bad "wrongly caught: $file: $text"; fi
    done < <(allowed)
    echo "layering self-test: $passed passed, $failed failed"
    [ "$failed" -eq 0 ] && [ "$passed" -gt 0 ]
}

case ${1-} in
    '')
        check "$root/src"
        [ "$status" -ne 0 ] || echo "layering: src/ keeps its rules"
        exit "$status"
        ;;
    --self-test) self_test ;;
    *)
        echo "usage: tests/layering.sh [--self-test]" >&2
        exit 2
        ;;
esac
