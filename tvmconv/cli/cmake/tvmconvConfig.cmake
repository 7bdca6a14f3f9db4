# find_package(tvmconv REQUIRED), with what `tvmconv cmake-dir` prints in CMAKE_PREFIX_PATH or tvmconv_DIR, gives
#
#   tvmconv_add_library(name [STATIC | SHARED] [WHOLE] [BAKE_WEIGHTS]
#                       [ONNX model.onnx] [SHAPES x=1x3x224x224 ...] [DESCRIPTORS [NAME=]DESCRIPTOR ...]
#                       [TARGETS native | cortex-a72 ...] [PREFIX p] [LOGS folder ...] [OPTIONS ...])
#
# a library target to link with: compiled when it is built, again when the model, its external weights, or a tuning
# log has changed; its header, name.h, is found by whatever links with it. SHARED if neither is said. WHOLE: the whole
# model as one function; else its convolutions. TARGETS: as of `tvmconv targets`, one architecture. LOGS: folders of
# tuning logs; without them those that tvmconv ships, and never those of whoever builds. OPTIONS: more of
# `tvmconv compile`.

cmake_minimum_required(VERSION 3.20)

if(NOT TVMCONV_EXECUTABLE)
  # The one beside which this file was installed, else the first in the PATH.
  find_package(Python3 QUIET COMPONENTS Interpreter)
  find_program(TVMCONV_EXECUTABLE tvmconv HINTS "${Python3_ROOT_DIR}/bin" "$ENV{VIRTUAL_ENV}/bin")
endif()
if(NOT TVMCONV_EXECUTABLE)
  set(tvmconv_FOUND FALSE)
  set(tvmconv_NOT_FOUND_MESSAGE "no command tvmconv: put it into the PATH, or set TVMCONV_EXECUTABLE")
  return()
endif()

function(tvmconv_add_library name)
  cmake_parse_arguments(PARSE_ARGV 1 A "STATIC;SHARED;WHOLE;BAKE_WEIGHTS" "ONNX;PREFIX"
    "SHAPES;DESCRIPTORS;TARGETS;LOGS;OPTIONS")
  if(A_UNPARSED_ARGUMENTS)
    message(FATAL_ERROR "tvmconv_add_library(${name}): ${A_UNPARSED_ARGUMENTS}: expected another argument")
  endif()
  if(A_STATIC AND A_SHARED)
    message(FATAL_ERROR "tvmconv_add_library(${name}): expected STATIC or SHARED, not both")
  endif()
  if(NOT A_ONNX AND NOT A_DESCRIPTORS)
    message(FATAL_ERROR "tvmconv_add_library(${name}): expected ONNX or DESCRIPTORS")
  endif()

  set(folder "${CMAKE_CURRENT_BINARY_DIR}/${name}.tvmconv")
  file(MAKE_DIRECTORY "${folder}")
  if(A_STATIC)
    set(kind STATIC)
    set(library "${folder}/lib${name}.a")
  else()
    set(kind SHARED)
    set(library "${folder}/lib${name}.so")
  endif()

  set(arguments ${A_DESCRIPTORS} -o "${library}" --header "${folder}/${name}.h" --depfile "${library}.d")
  set(depends)
  if(A_ONNX)
    get_filename_component(model "${A_ONNX}" ABSOLUTE)
    list(APPEND arguments --onnx "${model}")
    list(APPEND depends "${model}")
  endif()
  if(A_WHOLE)
    list(APPEND arguments --whole)
  endif()
  if(A_BAKE_WEIGHTS)
    list(APPEND arguments --bake-weights)
  endif()
  if(A_PREFIX)
    list(APPEND arguments --prefix "${A_PREFIX}")
  else()
    string(MAKE_C_IDENTIFIER "${name}" prefix)
    list(APPEND arguments --prefix "${prefix}")
  endif()
  foreach(shape IN LISTS A_SHAPES)
    list(APPEND arguments --shape "${shape}")
  endforeach()
  if(A_TARGETS)
    list(JOIN A_TARGETS "," targets)
    list(APPEND arguments --target "${targets}")
  endif()
  foreach(log IN LISTS A_LOGS)
    if(NOT log MATCHES "^(shipped|user)$")
      get_filename_component(log "${log}" ABSOLUTE)
    endif()
    list(APPEND arguments --log "${log}")
  endforeach()
  if(NOT A_LOGS)
    list(APPEND arguments --no-user-logs)
  endif()

  # What would not change is not written: Ninja then stops there, but Make goes by times and would ask again.
  set(touch)
  if(CMAKE_GENERATOR MATCHES "Makefiles")
    set(touch COMMAND "${CMAKE_COMMAND}" -E touch "${library}" "${folder}/${name}.h")
  endif()
  add_custom_command(
    OUTPUT "${library}" "${folder}/${name}.h"
    COMMAND "${TVMCONV_EXECUTABLE}" compile ${arguments} ${A_OPTIONS}
    ${touch}
    DEPENDS ${depends}
    DEPFILE "${library}.d"
    COMMENT "Compiling ${name} with tvmconv"
    VERBATIM COMMAND_EXPAND_LISTS)
  add_custom_target(${name}_tvmconv DEPENDS "${library}" "${folder}/${name}.h")

  add_library(${name} ${kind} IMPORTED GLOBAL)
  add_dependencies(${name} ${name}_tvmconv)
  set_target_properties(${name} PROPERTIES
    IMPORTED_LOCATION "${library}"
    INTERFACE_INCLUDE_DIRECTORIES "${folder}")
  if(A_STATIC)
    set(THREADS_PREFER_PTHREAD_FLAG TRUE)
    find_package(Threads REQUIRED)
    set_property(TARGET ${name} PROPERTY INTERFACE_LINK_LIBRARIES Threads::Threads m)
  endif()
endfunction()
