#include "core/delete_gate.hpp"

#include <doctest/doctest.h>

namespace outbox {

TEST_CASE("a delete's answer is told at once while nothing is read, and once") {
    DeleteGate gate;
    CHECK_FALSE(gate.let_through());
    gate.delete_answered();
    CHECK(gate.let_through());
    CHECK_FALSE(gate.let_through());
}

TEST_CASE("a delete's answer that comes while something is read waits for the read's own") {
    DeleteGate gate;
    gate.read_sent();
    gate.delete_answered();
    CHECK_FALSE(gate.let_through());
    gate.read_answered();
    CHECK(gate.let_through());
    CHECK_FALSE(gate.let_through());
}

TEST_CASE("what came before a read was sent does not wait for it") {
    DeleteGate gate;
    gate.delete_answered();
    gate.read_sent();
    CHECK(gate.let_through());
}

TEST_CASE("what has waited for one read does not wait for the next, which cannot see it") {
    DeleteGate gate;
    gate.read_sent();
    gate.delete_answered();
    gate.delete_answered();
    gate.read_answered();
    gate.read_sent();
    gate.delete_answered();
    CHECK(gate.let_through());
    CHECK(gate.let_through());
    CHECK_FALSE(gate.let_through());
    gate.read_answered();
    CHECK(gate.let_through());
}

}  // namespace outbox
