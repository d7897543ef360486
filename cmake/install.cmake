# cmake --install: headers, libraries, the CMake package `tarn`, pkg-config files, the program.
if(NOT tarn_libraries)
    return()
endif()
include(CMakePackageConfigHelpers)
set(package_dir "${CMAKE_INSTALL_LIBDIR}/cmake/tarn")

install(DIRECTORY include/tarn DESTINATION "${CMAKE_INSTALL_INCLUDEDIR}")
install(TARGETS ${tarn_libraries} EXPORT tarn-targets)
# `-static -ltarn`, as pkg-config --static says it, finds the overriding library too.
if(TARGET tarn_override_static)
    install(CODE "file(CREATE_LINK libtarn_override.a
        \"\$ENV{DESTDIR}\${CMAKE_INSTALL_PREFIX}/${CMAKE_INSTALL_LIBDIR}/libtarn.a\" SYMBOLIC)")
endif()
if(TARGET tarn_cli)
    install(TARGETS tarn_cli)
endif()

install(EXPORT tarn-targets NAMESPACE tarn:: DESTINATION "${package_dir}")
configure_package_config_file(cmake/tarn-config.cmake.in tarn-config.cmake
    INSTALL_DESTINATION "${package_dir}")
write_basic_package_version_file(tarn-config-version.cmake COMPATIBILITY SameMinorVersion)
install(FILES
    "${PROJECT_BINARY_DIR}/tarn-config.cmake" "${PROJECT_BINARY_DIR}/tarn-config-version.cmake"
    DESTINATION "${package_dir}")

# The pkg-config files find the prefix from their own place, so that it may be moved.
file(RELATIVE_PATH tarn_prefix_from_pc
    "/${CMAKE_INSTALL_LIBDIR}/pkgconfig" "/")
string(REGEX REPLACE "/$" "" tarn_prefix_from_pc "${tarn_prefix_from_pc}")
foreach(package tarn tarn-override)
    configure_file(cmake/${package}.pc.in ${package}.pc @ONLY)
    install(FILES "${PROJECT_BINARY_DIR}/${package}.pc"
        DESTINATION "${CMAKE_INSTALL_LIBDIR}/pkgconfig")
endforeach()
