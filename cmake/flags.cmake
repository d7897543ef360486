# How code is compiled. Two interface libraries:
#   tarn_warnings  everything we write: warnings, checks level, sanitizers, include paths
#   tarn_core_flags  what goes into a library, on top of the above
# Neither is installed.

add_library(tarn_warnings INTERFACE)
target_compile_features(tarn_warnings INTERFACE cxx_std_20)
target_include_directories(tarn_warnings INTERFACE
    "${PROJECT_SOURCE_DIR}/src" "${PROJECT_SOURCE_DIR}/include")
target_compile_options(tarn_warnings INTERFACE
    -Wall -Wextra -Wpedantic -Wconversion -Wshadow
    $<$<CXX_COMPILER_ID:Clang>:-Wthread-safety>
    $<$<BOOL:${TARN_DEVELOPER}>:-Werror>)

set(level_none 0)
set(level_assert 1)
set(level_audit 2)
target_compile_definitions(tarn_warnings INTERFACE TARN_CHECK_LEVEL=${level_${TARN_CHECKS}})

if(TARN_SANITIZE)
    set(sanitizers_address address,undefined)
    set(sanitizers_thread thread)
    set(tarn_sanitize_flags -fsanitize=${sanitizers_${TARN_SANITIZE}} -fno-sanitize-recover=all
        -fno-omit-frame-pointer)
    target_compile_options(tarn_warnings INTERFACE ${tarn_sanitize_flags})
    target_link_options(tarn_warnings INTERFACE ${tarn_sanitize_flags})
endif()
if(TARN_COVERAGE)
    set(tarn_coverage_flags -fprofile-instr-generate -fcoverage-mapping)
    target_compile_options(tarn_warnings INTERFACE ${tarn_coverage_flags})
    target_link_options(tarn_warnings INTERFACE ${tarn_coverage_flags})
endif()

add_library(tarn_core_flags INTERFACE)
target_link_libraries(tarn_core_flags INTERFACE tarn_warnings)
target_compile_options(tarn_core_flags INTERFACE
    -fno-exceptions -fno-rtti
    -fvisibility=hidden -fvisibility-inlines-hidden -fno-semantic-interposition -fno-plt
    -fno-stack-protector                # its canary is read before libc has set it up
    # else calloc may be compiled into a call of itself
    -fno-builtin-malloc -fno-builtin-calloc -fno-builtin-realloc -fno-builtin-free
    -fasynchronous-unwind-tables        # profilers unwind through us from anywhere
    -ffunction-sections
    $<$<CONFIG:Release>:-g1>            # line tables for reports; takes no memory at run time
    $<$<STREQUAL:${CMAKE_SYSTEM_PROCESSOR},x86_64>:-fcf-protection=none>)

# Sets the thread-local storage model of an object library.
function(tarn_tls_model target model)
    target_compile_options(${target} PRIVATE -ftls-model=${model})
    if(model STREQUAL "global-dynamic")
        target_compile_definitions(${target} PRIVATE TARN_TLS_MODEL_DYNAMIC=1)
    endif()
endfunction()
