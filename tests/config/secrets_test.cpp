#include "config/secrets.hpp"

#include <doctest/doctest.h>

namespace outbox {

TEST_CASE("passwords, keys and tokens are secret; names of files and the rest are not") {
    for (const std::string name : {"sasl.password", "ssl.key.password", "ssl.keystore.password", "ssl.key.pem",
                                   "ssl_key", "sasl.oauthbearer.client.secret", "sasl.oauthbearer.config",
                                   "sasl.oauthbearer.assertion.private.key.passphrase"}) {
        CHECK_MESSAGE(is_secret_kafka_property(name), name);
    }
    for (const std::string name : {"bootstrap.servers", "sasl.username", "ssl.key.location", "ssl.ca.pem", "linger.ms",
                                   "ssl.keystore.location", "sasl.oauthbearer.assertion.private.key.file"}) {
        CHECK_FALSE_MESSAGE(is_secret_kafka_property(name), name);
    }
}

TEST_CASE("a dsn without a secret is shown as it is") {
    for (const std::string dsn :
         {"host=/run/postgresql dbname=shop user=outbox_relay", "dbname='my shop' port=5433",
          "postgresql://relay@db1:5432,db2:5432/shop?target_session_attrs=read-write", "postgres:///shop", ""}) {
        CHECK(redact_dsn(dsn) == dsn);
        CHECK_FALSE(has_secret(dsn));
    }
}

TEST_CASE("the password in a dsn is left out, the rest shown") {
    CHECK(redact_dsn("host=db password=sesame user=u") == "host=db password=<redacted> user=u");
    CHECK(redact_dsn("password = 'ses\\'a me' host=db") == "password=<redacted> host=db");
    CHECK(redact_dsn("sslpassword=sesame host=db") == "sslpassword=<redacted> host=db");
    CHECK(redact_dsn("postgresql://u:sesame@db/shop") == "postgresql://u:<redacted>@db/shop");
    CHECK(redact_dsn("postgres://db/shop?user=u&password=sesame&sslmode=require") ==
          "postgres://db/shop?user=u&password=<redacted>&sslmode=require");
}

TEST_CASE("no way to write a password shows any of it") {
    for (const std::string dsn : {
             "password=sesame",
             "PASSWORD=sesame",
             "password\t=\tsesame",
             "password='sesame",
             "password=se\\ sesame host=db",
             "password=x sesame",
             "options='-c app.key=sesame'",
             "dbname=postgresql://u:sesame@db/shop",
             "dbname='host=db password=sesame'",
             "future_secret=sesame",
             "postgresql://u:se@sesame@db/shop",
             "postgresql://u:se/sesame@db/shop",
             "postgresql://u:se?sesame@db/shop",
             "postgresql://u:se#sesame@db/shop",
             "postgresql://db/shop?pass%77ord=sesame",
             "postgresql://db/shop?password=a&sesame",
             "postgresql://db/shop?user=u%3Asesame",
             "postgresql://db/shop?sslmode=x@sesame",
             "postgresql://:sesame@db",
             "mysql://u:sesame@db",
             "u:sesame@db",
         }) {
        CHECK_MESSAGE(redact_dsn(dsn).find("sesame") == std::string::npos, dsn);
        CHECK_MESSAGE(has_secret(dsn), dsn);
    }
}

}  // namespace outbox
