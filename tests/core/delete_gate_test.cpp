#include "core/delete_gate.hpp"

#include <doctest/doctest.h>

namespace outbox {

TEST_CASE("a delete's answer is told at once while nothing is read, and once") {
    DeleteGate gate;
    CHECK_FALSE(gate.let_through());
    gate.delete_sent(RowId{7});
    CHECK_FALSE(gate.let_through());
    gate.delete_answered();
    CHECK(gate.let_through());
    CHECK_FALSE(gate.let_through());
}

TEST_CASE("a delete's answer that comes while its rows may be read waits for the read's own") {
    DeleteGate gate;
    gate.read_sent(RowId{6});
    gate.delete_sent(RowId{7});
    gate.delete_answered();
    CHECK_FALSE(gate.let_through());
    gate.read_answered();
    CHECK(gate.let_through());
    CHECK_FALSE(gate.let_through());
}

TEST_CASE("a delete's answer does not wait for a read that begins behind its rows") {
    DeleteGate gate;
    gate.read_sent(RowId{7});
    gate.delete_sent(RowId{7});
    gate.delete_answered();
    CHECK(gate.let_through());
}

TEST_CASE("a delete's answer waits for the last of the reads that may see its rows") {
    DeleteGate gate;
    gate.read_sent(RowId{9});
    gate.read_sent(RowId{3});
    gate.read_sent(RowId{9});
    gate.delete_sent(RowId{7});
    gate.delete_answered();
    gate.read_answered();
    CHECK_FALSE(gate.let_through());
    gate.read_answered();
    CHECK(gate.let_through());
}

TEST_CASE("a delete's answer does not overtake an earlier one that waits") {
    DeleteGate gate;
    gate.read_sent(RowId{5});
    gate.delete_sent(RowId{7});
    gate.delete_sent(RowId{4});
    gate.delete_answered();
    gate.delete_answered();
    CHECK_FALSE(gate.let_through());
    gate.read_answered();
    CHECK(gate.let_through());
    CHECK(gate.let_through());
}

TEST_CASE("what came before a read was sent does not wait for it") {
    DeleteGate gate;
    gate.delete_sent(RowId{7});
    gate.delete_answered();
    gate.read_sent(RowId{0});
    CHECK(gate.let_through());
}

TEST_CASE("what has waited for one read does not wait for the next, which cannot see it") {
    DeleteGate gate;
    gate.read_sent(RowId{0});
    for (int i = 0; i < 2; ++i) {
        gate.delete_sent(RowId{7});
        gate.delete_answered();
    }
    gate.read_answered();
    gate.read_sent(RowId{0});
    gate.delete_sent(RowId{7});
    gate.delete_answered();
    CHECK(gate.let_through());
    CHECK(gate.let_through());
    CHECK_FALSE(gate.let_through());
    gate.read_answered();
    CHECK(gate.let_through());
}

}  // namespace outbox
