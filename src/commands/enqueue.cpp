#include <fstream>
#include <iostream>
#include <nlohmann/json.hpp>

#include "commands/command.hpp"
#include "commands/database.hpp"

namespace outbox {

namespace {

namespace options = boost::program_options;

constexpr std::size_t payload_bytes_max = std::size_t{64} << 20U;  // as the table's CHECK

std::string read_all(std::istream& stream, const std::string& name) {
    std::string bytes;
    std::string block(std::size_t{1} << 16U, '\0');
    while (stream.read(block.data(), static_cast<std::streamsize>(block.size())) || stream.gcount() > 0) {
        bytes.append(block, 0, static_cast<std::size_t>(stream.gcount()));
        if (bytes.size() > payload_bytes_max) throw UsageError(name + " is longer than 64 MiB");
    }
    if (stream.bad()) throw std::runtime_error("cannot read " + name);
    return bytes;
}

std::string payload_bytes(const std::string& argument) {
    if (argument == "-") return read_all(std::cin, "standard input");
    if (!argument.starts_with('@')) return argument;
    std::ifstream file(argument.substr(1), std::ios::binary);
    if (!file) throw UsageError("cannot open the payload file " + argument.substr(1));
    return read_all(file, argument.substr(1));
}

// Bytea's text form, so that any byte gets through.
std::string hex(const std::string& bytes) {
    constexpr std::string_view digits = "0123456789abcdef";
    std::string text = "\\x";
    text.reserve(2 + 2 * bytes.size());
    for (const char c : bytes) {
        const auto byte = static_cast<unsigned char>(c);
        text += digits[byte >> 4U];
        text += digits[byte & 15U];
    }
    return text;
}

std::string headers_json(const std::vector<std::string>& arguments) {
    nlohmann::json headers = nlohmann::json::object();
    for (const std::string& argument : arguments) {
        const auto equals = argument.find('=');
        if (equals == std::string::npos || equals == 0) throw UsageError("--header is NAME=VALUE");
        const std::string name = argument.substr(0, equals);
        if (headers.contains(name)) throw UsageError("--header " + name + " was given twice");
        headers[name] = argument.substr(equals + 1);
    }
    try {
        return headers.dump();
    } catch (const nlohmann::json::exception&) {
        throw UsageError("--header is not UTF-8");
    }
}

}  // namespace

ExitCode enqueue(const Invocation& invocation) {
    CommandLine line("enqueue", "--topic TOPIC [options]",
                     "Put one event into the outbox through outbox.publish() and print its event id.",
                     R"(outbox-relay enqueue --topic orders --key 42 --payload '{"state":"paid"}')");
    line.options()("topic", options::value<std::string>()->required(), "the Kafka topic")(
        "key", options::value<std::string>(), "the record's key; events without one have no order")(
        "payload", options::value<std::string>(), "the record's value: TEXT, - for standard input, @FILE for a file")(
        "tombstone", options::bool_switch(), "no value at all instead of --payload")(
        "header", options::value<std::vector<std::string>>(), "NAME=VALUE, any number of times");
    if (!line.parse(invocation)) return ExitCode::ok;

    const bool tombstone = line["tombstone"].as<bool>();
    if (tombstone == line.has("payload")) throw UsageError("enqueue wants either --payload or --tombstone");
    const auto headers =
        headers_json(line.has("header") ? line["header"].as<std::vector<std::string>>() : std::vector<std::string>());
    const Config config = line.config(Needs::postgres);

    Client::Parameter key;
    if (line.has("key")) key = line["key"].as<std::string>();
    Client::Parameter payload;
    if (!tombstone) payload = hex(payload_bytes(line["payload"].as<std::string>()));

    return with_database(config.postgres(), Role::app, [&](Client& client) {
        const Rows rows =
            client.execute("SELECT outbox.publish($1::text, $2::text, $3::bytea, $4::jsonb)",
                           {line["topic"].as<std::string>(), key, payload, headers}, std::chrono::seconds(60));
        std::cout << rows.text(0, 0) << '\n';
        return ExitCode::ok;
    });
}

}  // namespace outbox
