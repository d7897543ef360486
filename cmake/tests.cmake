# Helpers for tests/**/CMakeLists.txt.
include(GoogleTest)

set(TARN_TIMEOUT_FACTOR 1 CACHE STRING "How much longer tests may take than they say")

# Sets `out` to the labels of a test declared in the current folder: see tarn_add_gtest.
function(tarn_labels out)
    file(RELATIVE_PATH folder "${PROJECT_SOURCE_DIR}/tests" "${CMAKE_CURRENT_SOURCE_DIR}")
    set(labels ${folder} ${ARGN})
    set(${out} ${labels} PARENT_SCOPE)
endfunction()

# Sets `out` to the seconds after which a test counts as hung: those given, else 120.
function(tarn_timeout out)
    list(APPEND ARGN 120)
    list(GET ARGN 0 seconds)
    math(EXPR seconds "${seconds} * ${TARN_TIMEOUT_FACTOR}")
    set(${out} ${seconds} PARENT_SCOPE)
endfunction()

# tarn_add_gtest(NAME [FAKE] [TIMEOUT seconds] [ENVIRONMENT NAME=value] [LABELS label...]
#                SOURCES file...)
#
# A GoogleTest program linked with the prefixed core, whose internals it may include; every case is
# a test of CTest. FAKE: linked with the core whose system is the fake.
#
# Labels of a test: the name of its folder in tests/ always, and those given. `release`: run in the
# release presets alone. The aarch64 preset runs the folders that CMakePresets.json names.
function(tarn_add_gtest name)
    cmake_parse_arguments(PARSE_ARGV 1 arg "FAKE;OVERRIDE" "TIMEOUT;ENVIRONMENT" "LABELS;SOURCES")
    add_executable(${name} ${arg_SOURCES})
    target_include_directories(${name} PRIVATE "${PROJECT_SOURCE_DIR}/tests")
    set(flavour static)
    if(arg_FAKE)
        set(flavour fake)
    endif()
    set(library tarn_core_${flavour})
    if(arg_OVERRIDE)
        set(library tarn_override_static)
    endif()
    target_link_libraries(${name} PRIVATE tarn_warnings ${library} GTest::gtest_main)
    # Tests are compiled more often than run: -O1, and GoogleTest, which is most of what the
    # compiler reads there, only once.
    # GCC 12 sees overflows in std::string where none are (its bugs 105329 and 105651).
    target_compile_options(${name} PRIVATE
        -O1 $<$<CXX_COMPILER_ID:GNU>:-Wno-array-bounds>
        $<$<CXX_COMPILER_ID:GNU>:-Wno-restrict> $<$<CXX_COMPILER_ID:GNU>:-Wno-stringop-overflow>)
    target_precompile_headers(${name} REUSE_FROM tarn_gtest_pch_${flavour})
    tarn_timeout(timeout ${arg_TIMEOUT})
    gtest_discover_tests(${name}
        TEST_PREFIX "${name}." DISCOVERY_MODE PRE_TEST DISCOVERY_TIMEOUT 60
        PROPERTIES TIMEOUT ${timeout} ENVIRONMENT "${arg_ENVIRONMENT}")
    tarn_labels(labels ${arg_LABELS})
    # Not as a property above: gtest_discover_tests keeps only the first of several labels.
    set(file "${CMAKE_CURRENT_BINARY_DIR}/${name}_labels.cmake")
    file(WRITE "${file}" "if(${name}_TESTS)
    set_tests_properties(\${${name}_TESTS} PROPERTIES LABELS \"${labels}\")
endif()
")
    set_property(DIRECTORY APPEND PROPERTY TEST_INCLUDE_FILES "${file}")
endfunction()

# tarn_add_program(NAME [FAKE | OVERRIDE | PLAIN] SOURCES file...)
#
# A program that a script drives. Linked with the prefixed core, with the FAKE one, with the static
# OVERRIDE library, or with nothing of ours (PLAIN: for preloading).
function(tarn_add_program name)
    cmake_parse_arguments(PARSE_ARGV 1 arg "FAKE;OVERRIDE;PLAIN" "" "SOURCES")
    add_executable(${name} ${arg_SOURCES})
    target_include_directories(${name} PRIVATE "${PROJECT_SOURCE_DIR}/tests")
    target_link_libraries(${name} PRIVATE tarn_warnings)
    if(arg_FAKE)
        target_link_libraries(${name} PRIVATE tarn_core_fake)
    elseif(arg_OVERRIDE)
        target_link_libraries(${name} PRIVATE tarn_override_static)
    elseif(NOT arg_PLAIN)
        target_link_libraries(${name} PRIVATE tarn_core_static)
    endif()
endfunction()

# tarn_add_command_test(NAME [TIMEOUT seconds] [LABELS label...] COMMAND command argument...)
#
# A test that is one command; exit status 77 means skipped.
function(tarn_add_command_test name)
    cmake_parse_arguments(PARSE_ARGV 1 arg "" "TIMEOUT" "LABELS;COMMAND")
    add_test(NAME ${name} COMMAND ${arg_COMMAND})
    tarn_timeout(timeout ${arg_TIMEOUT})
    tarn_labels(labels ${arg_LABELS})
    set_tests_properties(${name} PROPERTIES
        TIMEOUT ${timeout} LABELS "${labels}" SKIP_RETURN_CODE 77)
endfunction()
