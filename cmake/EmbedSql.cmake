# embed_sql(VARIABLE FOLDER): generates a source that defines embedded_migrations() (postgres/migrations.hpp) from
# FOLDER/<module>/NNNN_name.sql, and puts its path into VARIABLE. Built again when a file changes.
#
# Included, this file defines the function; run with cmake -P it does the generating.

if(CMAKE_SCRIPT_MODE_FILE)
  file(GLOB files RELATIVE ${FOLDER} ${FOLDER}/*/*.sql)
  list(SORT files)
  set(previous_module "")
  set(entries "")
  foreach(file IN LISTS files)
    if(NOT file MATCHES "^([a-z_]+)/([0-9][0-9][0-9][0-9])_([a-z0-9_]+)[.]sql$")
      message(FATAL_ERROR "${FOLDER}/${file} is not called <module>/NNNN_name.sql")
    endif()
    set(module ${CMAKE_MATCH_1})
    math(EXPR version "1${CMAKE_MATCH_2} - 10000")
    set(name ${CMAKE_MATCH_3})
    if(NOT module STREQUAL previous_module)
      set(expected 1)
      set(previous_module ${module})
    endif()
    if(NOT version EQUAL expected)
      message(FATAL_ERROR "${FOLDER}/${file}: the next number is ${expected}; numbers go up by one")
    endif()
    math(EXPR expected "${expected} + 1")
    file(SHA256 ${FOLDER}/${file} checksum)
    file(READ ${FOLDER}/${file} text)
    if(text MATCHES "[)]embedded\"")
      message(FATAL_ERROR "${FOLDER}/${file} holds the end mark of a raw string")
    endif()
    string(APPEND entries "    Migration{\"${module}\", ${version}, \"${name}\", \"${checksum}\", R\"embedded(${text})embedded\"},\n")
  endforeach()
  file(WRITE ${OUTPUT} "// Generated from sql/ by cmake/EmbedSql.cmake.
#include <array>

#include \"postgres/migrations.hpp\"

namespace outbox {

namespace {

constexpr std::array migrations{
${entries}};

}  // namespace

std::span<const Migration> embedded_migrations() { return migrations; }

}  // namespace outbox
")
  return()
endif()

set(EMBED_SQL_SCRIPT ${CMAKE_CURRENT_LIST_FILE})

function(embed_sql variable folder)
  set(output ${CMAKE_CURRENT_BINARY_DIR}/embedded_migrations.cpp)
  file(GLOB files CONFIGURE_DEPENDS ${folder}/*/*.sql)
  add_custom_command(OUTPUT ${output}
    COMMAND ${CMAKE_COMMAND} -D FOLDER=${folder} -D OUTPUT=${output} -P ${EMBED_SQL_SCRIPT}
    DEPENDS ${files} ${EMBED_SQL_SCRIPT}
    COMMENT "Embedding ${folder}"
    VERBATIM)
  set(${variable} ${output} PARENT_SCOPE)
endfunction()
