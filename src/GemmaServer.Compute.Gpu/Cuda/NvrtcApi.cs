using System.Runtime.InteropServices;

namespace GemmaServer.Compute;

/// <summary>
/// The functions of NVRTC that are used. Bound to one library's handle and not through <c>LibraryImport</c>: several versions may
/// lie side by side, and tests hold more than one.
/// </summary>
internal sealed unsafe class NvrtcApi(nint library)
{
    public const int Success = 0, CompilationError = 6;

    public readonly delegate* unmanaged<int*, int*, int> Version = (delegate* unmanaged<int*, int*, int>)Export(library, "nvrtcVersion");
    public readonly delegate* unmanaged<int*, int> GetNumSupportedArchs = (delegate* unmanaged<int*, int>)Export(library, "nvrtcGetNumSupportedArchs");
    public readonly delegate* unmanaged<int*, int> GetSupportedArchs = (delegate* unmanaged<int*, int>)Export(library, "nvrtcGetSupportedArchs");
    public readonly delegate* unmanaged<int, byte*> GetErrorString = (delegate* unmanaged<int, byte*>)Export(library, "nvrtcGetErrorString");

    public readonly delegate* unmanaged<nint*, byte*, byte*, int, byte**, byte**, int> CreateProgram =
        (delegate* unmanaged<nint*, byte*, byte*, int, byte**, byte**, int>)Export(library, "nvrtcCreateProgram");

    public readonly delegate* unmanaged<nint, int, byte**, int> CompileProgram = (delegate* unmanaged<nint, int, byte**, int>)Export(library, "nvrtcCompileProgram");
    public readonly delegate* unmanaged<nint*, int> DestroyProgram = (delegate* unmanaged<nint*, int>)Export(library, "nvrtcDestroyProgram");
    public readonly delegate* unmanaged<nint, nuint*, int> GetProgramLogSize = (delegate* unmanaged<nint, nuint*, int>)Export(library, "nvrtcGetProgramLogSize");
    public readonly delegate* unmanaged<nint, byte*, int> GetProgramLog = (delegate* unmanaged<nint, byte*, int>)Export(library, "nvrtcGetProgramLog");
    public readonly delegate* unmanaged<nint, nuint*, int> GetCubinSize = (delegate* unmanaged<nint, nuint*, int>)Export(library, "nvrtcGetCUBINSize");
    public readonly delegate* unmanaged<nint, byte*, int> GetCubin = (delegate* unmanaged<nint, byte*, int>)Export(library, "nvrtcGetCUBIN");
    public readonly delegate* unmanaged<nint, nuint*, int> GetPtxSize = (delegate* unmanaged<nint, nuint*, int>)Export(library, "nvrtcGetPTXSize");
    public readonly delegate* unmanaged<nint, byte*, int> GetPtx = (delegate* unmanaged<nint, byte*, int>)Export(library, "nvrtcGetPTX");

    public string Describe(int error) => $"{Marshal.PtrToStringUTF8((nint)GetErrorString(error))} ({error})";

    private static nint Export(nint library, string name) => NativeLibrary.TryGetExport(library, name, out nint address)
        ? address
        : throw new GpuException($"The NVRTC library that was found is older than CUDA 11.2: it has no {name}. Install a newer one.");
}
