# platform/backtrace/island.hpp: island.cpp, GCC's libbacktrace and libstdc++'s demangler as one
# object, of which only tarn_symbols_* stays global. Sets tarn_island to it.
#
# Both archives belong to GCC. Clang uses those of the GCC it finds, too.
function(tarn_find_archive out name)
    execute_process(COMMAND "${CMAKE_CXX_COMPILER}" -print-file-name=${name}
        OUTPUT_VARIABLE path OUTPUT_STRIP_TRAILING_WHITESPACE)
    if(NOT IS_ABSOLUTE "${path}")
        message(FATAL_ERROR "${name} not found: it is part of GCC, as Debian packs it")
    endif()
    file(REAL_PATH "${path}" path)
    set(${out} "${path}" PARENT_SCOPE)
endfunction()
tarn_find_archive(tarn_libbacktrace libbacktrace.a)
tarn_find_archive(tarn_libsupcxx libsupc++.a)

# Not from GCC's include folder as such, which has headers that Clang must not see.
cmake_path(GET tarn_libbacktrace PARENT_PATH folder)
set(tarn_backtrace_header "${folder}/include/backtrace.h")
if(NOT EXISTS "${tarn_backtrace_header}")
    message(FATAL_ERROR "${tarn_backtrace_header} not found: libbacktrace comes without its header")
endif()

add_library(tarn_island_parts OBJECT platform/backtrace/island.cpp)
target_compile_features(tarn_island_parts PRIVATE cxx_std_20)
target_include_directories(tarn_island_parts PRIVATE "${PROJECT_SOURCE_DIR}/src")
target_compile_definitions(tarn_island_parts PRIVATE
    TARN_BACKTRACE_HEADER="${tarn_backtrace_header}")
# It defines functions of libc; and no sanitizer may look into a process that is not its own.
target_compile_options(tarn_island_parts PRIVATE
    -Wall -Wextra $<$<BOOL:${TARN_DEVELOPER}>:-Werror> -O2 -g1 -fno-builtin -fno-lto
    -fno-exceptions -fno-rtti -fvisibility=hidden -fno-stack-protector -fno-plt
    $<$<STREQUAL:${CMAKE_SYSTEM_PROCESSOR},x86_64>:-fcf-protection=none>)

set(tarn_island "${CMAKE_CURRENT_BINARY_DIR}/tarn_island.o")
set(joined "${CMAKE_CURRENT_BINARY_DIR}/tarn_island_joined.o")
add_custom_command(OUTPUT "${tarn_island}"
    COMMAND "${CMAKE_CXX_COMPILER}" -r -nostdlib -fno-lto -o "${joined}"
        "$<TARGET_OBJECTS:tarn_island_parts>" "${tarn_libbacktrace}" "${tarn_libsupcxx}"
    # Its constant tables are relocated at start: in .data that touches no page that is not touched
    # anyway, beside .data.rel.ro one more.
    COMMAND "${CMAKE_OBJCOPY}" --wildcard --keep-global-symbol=tarn_symbols_*
        --rename-section .data.rel.ro.local=.data --rename-section .data.rel.ro=.data
        "${joined}" "${tarn_island}"
    DEPENDS tarn_island_parts "$<TARGET_OBJECTS:tarn_island_parts>"
        "${tarn_libbacktrace}" "${tarn_libsupcxx}"
    COMMENT "Linking the island around libbacktrace" COMMAND_EXPAND_LISTS VERBATIM)
set_source_files_properties("${tarn_island}" PROPERTIES EXTERNAL_OBJECT ON GENERATED ON)
add_custom_target(tarn_island_made DEPENDS "${tarn_island}")
