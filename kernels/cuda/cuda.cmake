# Finds what the CUDA device needs: nvcc, the CUDA runtime, cuDNN >= 9 and NCCL, and links a program with all of them.
# Included by the top-level CMakeLists.txt. Sets RDP_WITH_CUDA, and adds its rows to the table of dependencies.
#
# RESNET_DP_CUDA: auto takes CUDA when all of it is there; ON fails, with the reason, when some of it is not; OFF does
# not look. Architectures: CMAKE_CUDA_ARCHITECTURES, else the data-centre GPUs that this nvcc knows (8.0, 9.0, 10.0) and
# PTX of the newest for what comes after.
set(RESNET_DP_CUDA "auto" CACHE STRING "Build the CUDA device: auto, ON or OFF")
set_property(CACHE RESNET_DP_CUDA PROPERTY STRINGS auto ON OFF)
set(RDP_WITH_CUDA FALSE)
set(cuda_missing "")

function(rdp_default_cuda_architectures out)
    execute_process(COMMAND "${CMAKE_CUDA_COMPILER}" --list-gpu-arch OUTPUT_VARIABLE known ERROR_QUIET)
    set(chosen "")
    foreach(candidate IN ITEMS 80 90 100)
        if(known MATCHES "compute_${candidate}[^0-9]")
            list(APPEND chosen "${candidate}-real")
            set(newest "${candidate}")
        endif()
    endforeach()
    list(APPEND chosen "${newest}-virtual")
    set(${out} "${chosen}" PARENT_SCOPE)
endfunction()

if(NOT RESNET_DP_CUDA STREQUAL "OFF")
    include(CheckLanguage)
    check_language(CUDA)
    if(CMAKE_CUDA_COMPILER)
        if(NOT DEFINED CMAKE_CUDA_ARCHITECTURES)
            rdp_default_cuda_architectures(CMAKE_CUDA_ARCHITECTURES)
        endif()
        enable_language(CUDA)
        enable_language(CXX) # of the tests' emulation of CUDA
        set(CMAKE_CUDA_STANDARD 17)
        set(CMAKE_CUDA_STANDARD_REQUIRED ON)
        set(CMAKE_CUDA_RUNTIME_LIBRARY Shared)
        find_package(CUDAToolkit QUIET)
    endif()
    set(hints HINTS ${CUDAToolkit_INCLUDE_DIRS} ${CUDAToolkit_LIBRARY_DIR})
    find_path(CUDNN_INCLUDE_DIR cudnn_graph.h ${hints})
    find_library(CUDNN_LIBRARY cudnn ${hints})
    find_path(NCCL_INCLUDE_DIR nccl.h ${hints})
    find_library(NCCL_LIBRARY nccl ${hints})
    mark_as_advanced(CUDNN_INCLUDE_DIR CUDNN_LIBRARY NCCL_INCLUDE_DIR NCCL_LIBRARY)
    rdp_header_version(CUDNN_VERSION "${CUDNN_INCLUDE_DIR}/cudnn_version.h" "define CUDNN_MAJOR +([0-9]+)"
                       "define CUDNN_MINOR +([0-9]+)" "define CUDNN_PATCHLEVEL +([0-9]+)")
    rdp_header_version(NCCL_VERSION "${NCCL_INCLUDE_DIR}/nccl.h" "define NCCL_MAJOR +([0-9]+)"
                       "define NCCL_MINOR +([0-9]+)" "define NCCL_PATCH +([0-9]+)")
    # rdp_need() notes what is missing in RDP_MISSING, which ends the configuration: with `auto` it must not.
    set(required_missing "${RDP_MISSING}")
    set(RDP_MISSING "")
    set(cudnn_found FALSE)
    if(CUDNN_INCLUDE_DIR AND CUDNN_LIBRARY)
        set(cudnn_found TRUE)
    endif()
    set(nccl_found FALSE)
    if(NCCL_INCLUDE_DIR AND NCCL_LIBRARY)
        set(nccl_found TRUE)
    endif()
    rdp_need("CUDA" 12.0 "${CUDAToolkit_FOUND}" "${CUDAToolkit_VERSION}" "${CMAKE_CUDA_COMPILER}"
             "none; NVIDIA's CUDA toolkit (or -DRESNET_DP_CUDA=OFF)")
    rdp_need("cuDNN" 9.0 "${cudnn_found}" "${CUDNN_VERSION}" "${CUDNN_LIBRARY}"
             "none; NVIDIA's cudnn9-dev (or -DRESNET_DP_CUDA=OFF; hint: -DCUDNN_INCLUDE_DIR, -DCUDNN_LIBRARY)")
    rdp_need("NCCL" 2.19 "${nccl_found}" "${NCCL_VERSION}" "${NCCL_LIBRARY}"
             "none; NVIDIA's libnccl-dev (or -DRESNET_DP_CUDA=OFF; hint: -DNCCL_INCLUDE_DIR, -DNCCL_LIBRARY)")
    set(cuda_missing "${RDP_MISSING}")
    set(RDP_MISSING "${required_missing}")
    if(NOT cuda_missing)
        set(CMAKE_REQUIRED_INCLUDES ${CUDAToolkit_INCLUDE_DIRS} ${CUDNN_INCLUDE_DIR} ${NCCL_INCLUDE_DIR})
        set(CMAKE_REQUIRED_LIBRARIES CUDA::cudart ${CUDNN_LIBRARY} ${NCCL_LIBRARY})
        include(CheckCSourceCompiles)
        check_c_source_compiles("#include <cuda_runtime_api.h>
#include <cudnn_graph.h>
#include <nccl.h>
int main(void) { int n; ncclGetVersion(&n); return cudaGetDeviceCount(&n) + (int)cudnnGetVersion(); }" RDP_CUDA_LINKS)
        unset(CMAKE_REQUIRED_INCLUDES)
        unset(CMAKE_REQUIRED_LIBRARIES)
        if(RDP_CUDA_LINKS)
            set(RDP_WITH_CUDA TRUE)
        else()
            set(cuda_missing "\n  a program that uses CUDA, cuDNN and NCCL does not link: see CMakeFiles/CMakeError.log "
                             "or CMakeFiles/CMakeConfigureLog.yaml")
        endif()
    endif()
    if(cuda_missing AND RESNET_DP_CUDA STREQUAL "ON")
        string(APPEND RDP_MISSING "${cuda_missing}")
    endif()
endif()
