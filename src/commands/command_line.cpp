#include <filesystem>
#include <iostream>
#include <utility>

#include "commands/command.hpp"
#include "kafka/properties.hpp"

namespace outbox {

namespace {

namespace po = boost::program_options;

constexpr const char* default_file = "/etc/outbox-relay/outbox-relay.toml";

// No guessing: --conf is not --config, so that a new option never changes what an old script means.
constexpr int strict_style = po::command_line_style::allow_short | po::command_line_style::short_allow_next |
                             po::command_line_style::short_allow_adjacent | po::command_line_style::allow_long |
                             po::command_line_style::long_allow_next | po::command_line_style::long_allow_adjacent |
                             po::command_line_style::allow_dash_for_short;

}  // namespace

CommandLine::CommandLine(std::string name, std::string synopsis, std::string summary, std::string example)
    : name_(std::move(name)),
      synopsis_(std::move(synopsis)),
      summary_(std::move(summary)),
      example_(std::move(example)),
      own_("Options of this command"),
      global_("Options of every command") {
    auto add = global_.add_options();
    add("config,c", po::value<std::string>()->value_name("FILE"),
        (std::string("the configuration file; without it ") + default_file + ", where there is one").c_str());
    add("set", po::value<std::vector<std::string>>()->value_name("SECTION.KEY=VALUE"),
        "set one option, over the file and the environment; may be repeated");
    add("help,h", "show this text");
}

po::options_description_easy_init CommandLine::options() {
    return own_.add_options();
}

void CommandLine::positional(const std::string& option, const std::string& description) {
    hidden_.add_options()(option.c_str(), po::value<std::string>(), description.c_str());
    positional_.add(option.c_str(), 1);
    arguments_.emplace_back(option, description);
}

bool CommandLine::parse(const Invocation& invocation) {
    environment_ = invocation.environment;
    po::options_description all;
    all.add(own_).add(hidden_).add(global_);
    try {
        const auto parsed = po::command_line_parser(invocation.arguments)
                                .options(all)
                                .positional(positional_)
                                .style(strict_style)
                                .run();
        po::store(parsed, values_);
        if (has("help")) {
            print_help();
            return false;
        }
        po::notify(values_);
    } catch (const po::too_many_positional_options_error&) {
        throw UsageError(name_ + ": too many arguments; see outbox-relay " + name_ + " --help");
    } catch (const po::error& error) {
        throw UsageError(name_ + ": " + error.what() + "; see outbox-relay " + name_ + " --help");
    }
    return true;
}

RawOptions CommandLine::raw() const {
    RawOptions raw;
    if (has("config")) {
        read_toml_file(raw, values_["config"].as<std::string>());
    } else if (std::error_code error; std::filesystem::exists(default_file, error)) {
        read_toml_file(raw, default_file);
    }
    read_environment(raw, environment_);
    if (has("set")) {
        for (const std::string& assignment : values_["set"].as<std::vector<std::string>>()) {
            read_assignment(raw, assignment);
        }
    }
    return raw;
}

Config CommandLine::config(Needs needs) const {
    ConfigContext context;
    context.needs = needs;
    if (const auto found = environment_.find("CREDENTIALS_DIRECTORY"); found != environment_.end()) {
        context.credentials_directory = found->second;
    }
    context.check_property = check_kafka_property;
    context.property_names = kafka_property_names();
    return Config::from(raw(), context);
}

void CommandLine::print_help() const {
    std::cout << "Usage: outbox-relay " << name_ << (synopsis_.empty() ? "" : " ") << synopsis_ << "\n\n"
              << summary_ << "\n";
    if (!arguments_.empty()) std::cout << "\nArguments:\n";
    for (const auto& [argument, description] : arguments_) std::cout << "  " << argument << "  " << description << "\n";
    if (!own_.options().empty()) std::cout << "\n" << own_;
    std::cout << "\n" << global_ << "\nExample:\n  " << example_ << "\n";
}

}  // namespace outbox
