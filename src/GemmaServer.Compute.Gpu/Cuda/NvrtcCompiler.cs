using System.Globalization;
using System.Text;

namespace GemmaServer.Compute;

/// <summary>Compiles CUDA C for one architecture: to machine code where NVRTC knows it, otherwise to PTX that the driver translates.</summary>
internal sealed unsafe class NvrtcCompiler
{
    private readonly NvrtcApi _api;
    private readonly int[] _architectures;

    /// <param name="library">A loaded NVRTC.</param>
    public NvrtcCompiler(nint library)
    {
        _api = new NvrtcApi(library);
        int major, minor, count;
        Check(_api.Version(&major, &minor), "ask for its version");
        (Major, Minor) = (major, minor);
        Check(_api.GetNumSupportedArchs(&count), "ask for its architectures");
        _architectures = new int[count];
        fixed (int* p = _architectures) Check(_api.GetSupportedArchs(p), "ask for its architectures");
    }

    public int Major { get; }

    public int Minor { get; }

    public string Version => string.Create(CultureInfo.InvariantCulture, $"NVRTC {Major}.{Minor}");

    /// <summary>The installed NVRTC.</summary>
    /// <exception cref="GpuException">There is none.</exception>
    public static NvrtcCompiler Installed() => new(DriverLibraries.Handle(DriverLibraries.Nvrtc) is nint handle and not 0
        ? handle
        : throw new GpuException(
            $"CUDA's compiler library is not installed: none of {DriverLibraries.Names(DriverLibraries.Nvrtc)} was found. It comes with the CUDA toolkit, "
            + "or alone: cuda-nvrtc-12-x (NVIDIA's repository), libnvrtc12 (Debian, Ubuntu), nvidia-cuda-nvrtc-cu12 (pip). In a container, take an image "
            + "nvidia/cuda:…-runtime or mount the toolkit to /usr/local/cuda; GEMMASERVER_DRIVER_PATH names any other folder."));

    /// <summary>
    /// The option for a device: <c>sm_90a</c> with what only that architecture has, <c>sm_NN</c> where NVRTC knows it, and otherwise
    /// the newest <c>compute_NN</c> before it.
    /// </summary>
    /// <param name="architecture">Compute capability as 80, 90.</param>
    public string Target(int architecture)
    {
        if (architecture == 90 && Major >= 12 && _architectures.Contains(90)) return "sm_90a";
        if (_architectures.Contains(architecture)) return string.Create(CultureInfo.InvariantCulture, $"sm_{architecture}");
        int nearest = _architectures.Where(a => a < architecture).DefaultIfEmpty(0).Max();
        return nearest > 0
            ? string.Create(CultureInfo.InvariantCulture, $"compute_{nearest}")
            : throw new GpuException(string.Create(CultureInfo.InvariantCulture,
                $"{Version} does not compile for compute capability {architecture / 10}.{architecture % 10}, which is older than all it knows: install an older CUDA toolkit's NVRTC."));
    }

    /// <summary>Everything that the compiled form depends on beside the text: no fast math, because kernels are held against exact twins.</summary>
    public static string[] Options(string target) => [$"--gpu-architecture={target}", "--std=c++17"];

    /// <summary>Compiles; machine code for an <c>sm_</c> target, PTX for a <c>compute_</c> one.</summary>
    /// <param name="file">For messages.</param>
    /// <param name="text">CUDA C.</param>
    /// <param name="options">As <see cref="Options"/>, or more.</param>
    /// <exception cref="GpuException">It does not compile; the message is the compiler's log.</exception>
    public (byte[] Image, string Log) Compile(string file, string text, string[] options)
    {
        nint program;
        fixed (byte* name = Utf8(file), source = Utf8(text)) Check(_api.CreateProgram(&program, source, name, 0, null, null), $"take {file}");
        try
        {
            int error = CompileWith(program, options);
            string log = Log(program);
            if (error != NvrtcApi.Success)
                throw new GpuException($"{file} does not compile with {Version} {string.Join(' ', options)}: {_api.Describe(error)}\n{log}");
            return (Array.Exists(options, static o => o.Contains("=sm_", StringComparison.Ordinal)) ? Cubin(program) : Ptx(program), log);
        }
        finally
        {
            _ = _api.DestroyProgram(&program);
        }
    }

    private int CompileWith(nint program, string[] options)
    {
        byte[] text = Utf8(string.Join('\0', options));
        fixed (byte* p = text)
        {
            byte** starts = stackalloc byte*[options.Length];
            int at = 0;
            for (int i = 0; i < options.Length; at += Encoding.UTF8.GetByteCount(options[i++]) + 1) starts[i] = p + at;
            return _api.CompileProgram(program, options.Length, starts);
        }
    }

    private string Log(nint program)
    {
        nuint size;
        if (_api.GetProgramLogSize(program, &size) != NvrtcApi.Success || size == 0) return "";
        byte[] log = new byte[size];
        fixed (byte* p = log) _ = _api.GetProgramLog(program, p);
        return Encoding.UTF8.GetString(log).TrimEnd('\0').Trim();
    }

    private byte[] Cubin(nint program)
    {
        nuint size;
        Check(_api.GetCubinSize(program, &size), "give machine code");
        byte[] image = new byte[size];
        fixed (byte* p = image) Check(_api.GetCubin(program, p), "give machine code");
        return image;
    }

    private byte[] Ptx(nint program)
    {
        nuint size;
        Check(_api.GetPtxSize(program, &size), "give PTX");
        byte[] image = new byte[size];
        fixed (byte* p = image) Check(_api.GetPtx(program, p), "give PTX");
        return image;
    }

    private void Check(int error, string what)
    {
        if (error != NvrtcApi.Success) throw new GpuException($"NVRTC could not {what}: {_api.Describe(error)}");
    }

    private static byte[] Utf8(string text) => Encoding.UTF8.GetBytes(text + '\0');
}
