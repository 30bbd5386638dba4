using System.Text;

namespace GemmaServer.Compute;

/// <summary>Programs of a context: compiled by NVRTC or taken from disk, loaded once.</summary>
/// <param name="gpu">Whose.</param>
/// <param name="cache">Where compiled programs are kept.</param>
internal sealed unsafe class CudaModules(CudaContext gpu, KernelCache cache) : IDisposable
{
    private readonly Dictionary<string, nint> _modules = [];
    private readonly Dictionary<(string Text, string Name), CudaKernel> _kernels = [];
    private NvrtcCompiler? _compiler;

    /// <summary>Sees every program before it is compiled, file and text: tests on a stand-in driver show it to the real compiler.</summary>
    internal static Action<string, string>? Compiling { get; set; }

    /// <summary>Kernels so far.</summary>
    public int Count => _kernels.Count;

    public CudaKernel Kernel(KernelSource source, string name)
    {
        string text = source.Text(GpuApi.Cuda);
        if (_kernels.TryGetValue((text, name), out CudaKernel? kernel)) return kernel;
        if (!_modules.TryGetValue(text, out nint module)) _modules.Add(text, module = Module(source.File, text));
        nint function;
        fixed (byte* utf8 = Encoding.UTF8.GetBytes(name + '\0'))
            gpu.Check(CudaApi.cuModuleGetFunction(&function, module, utf8), $"find kernel {name} of {source.File} for");
        return _kernels[(text, name)] = new CudaKernel(gpu, function, name, text);
    }

    public void Dispose()
    {
        foreach (CudaKernel kernel in _kernels.Values) kernel.Dispose();
        foreach (nint module in _modules.Values) _ = CudaApi.cuModuleUnload(module);
        _kernels.Clear();
        _modules.Clear();
    }

    private nint Module(string file, string text)
    {
        Compiling?.Invoke(file, text);
        _compiler ??= NvrtcCompiler.Installed();
        string[] options = NvrtcCompiler.Options(_compiler.Target(gpu.Info.Architecture));
        string key = KernelCache.Key("cuda", text, string.Join(' ', options), _compiler.Version, gpu.Info.Driver, gpu.Info.Name);
        if (cache.Read(key) is byte[] stored)
        {
            if (Load(stored, out nint module, out _) == CudaApi.Success) return module;
            cache.Remove(key);
        }
        byte[] image = _compiler.Compile(file, text, options).Image;
        int error = Load(image, out nint loaded, out string log);
        if (error != CudaApi.Success) throw Refused(file, error, log);
        cache.Write(key, image);
        return loaded;
    }

    private static int Load(byte[] image, out nint module, out string log)
    {
        const int LogBytes = 8192;
        byte[] text = new byte[LogBytes];
        int* options = stackalloc int[2] { CudaApi.JitErrorLogBuffer, CudaApi.JitErrorLogBufferSizeBytes };
        void** values = stackalloc void*[2];
        nint loaded = 0;
        int error;
        fixed (byte* p = image, buffer = text)
        {
            values[0] = buffer;
            values[1] = (void*)LogBytes;
            error = CudaApi.cuModuleLoadDataEx(&loaded, p, 2, options, values);
        }
        (module, log) = (loaded, Encoding.UTF8.GetString(text).TrimEnd('\0').Trim());
        return error;
    }

    private GpuException Refused(string file, int error, string log) => new(
        $"{gpu.Info.Id} ({gpu.Info.Name}) does not take {file} as {_compiler!.Version} compiled it: {CudaApi.Describe(error)}. {log}" + error switch
        {
            CudaApi.UnsupportedPtxVersion or CudaApi.NoBinaryForGpu or CudaApi.InvalidImage or CudaApi.InvalidPtx =>
                $" {gpu.Info.Driver} is older than the compiler: update the driver, or install the NVRTC of its own CUDA version.",
            _ => "",
        });
}
