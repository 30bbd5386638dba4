using System.Globalization;
using System.Text;

namespace GemmaServer.Compute;

/// <summary>Looks for OpenCL devices: GPUs and accelerators first, then processors, each in the drivers' order.</summary>
internal static unsafe class OpenClDevices
{
    private const ulong DeviceTypeCpu = 1 << 1;
    private const uint DeviceType = 0x1000;

    /// <summary>A device and what its driver says of it.</summary>
    /// <param name="Device">Its handle.</param>
    /// <param name="Info">What users and plans need to know.</param>
    /// <param name="Alignment">What sub-buffers begin at a multiple of.</param>
    /// <param name="CachesBinaries">Whether the driver keeps compiled programs itself.</param>
    public readonly record struct Found(nint Device, GpuInfo Info, int Alignment, bool CachesBinaries);

    /// <summary>All devices; empty without a driver.</summary>
    public static IReadOnlyList<Found> All()
    {
        if (!DriverLibraries.TryLoad(DriverLibraries.OpenCl)) return [];
        uint count = 0;
        int error = OpenClApi.clGetPlatformIDs(0, null, &count);
        if (error == OpenClApi.PlatformNotFound || count == 0) return [];
        Check(error, "list the OpenCL platforms");
        nint[] platforms = new nint[count];
        fixed (nint* p = platforms) Check(OpenClApi.clGetPlatformIDs(count, p, null), "list the OpenCL platforms");

        List<(nint Platform, nint Device, bool IsProcessor)> devices = [];
        foreach (nint platform in platforms)
        {
            error = OpenClApi.clGetDeviceIDs(platform, OpenClApi.DeviceTypeAll, 0, null, &count);
            if (error != OpenClApi.Success || count == 0) continue;
            nint[] ids = new nint[count];
            fixed (nint* p = ids) Check(OpenClApi.clGetDeviceIDs(platform, OpenClApi.DeviceTypeAll, count, p, null), "list the OpenCL devices");
            foreach (nint id in ids)
                if (Number<uint>(id, OpenClApi.DeviceEndianLittle) != 0) devices.Add((platform, id, (Number<ulong>(id, DeviceType) & DeviceTypeCpu) != 0));
        }
        return [.. devices.OrderBy(static d => d.IsProcessor).Select(static (d, i) => Describe(d.Platform, d.Device, i, d.IsProcessor))];
    }

    private static Found Describe(nint platform, nint device, int index, bool isProcessor)
    {
        string platformName = PlatformText(platform, OpenClApi.PlatformName);
        string driver = string.Create(CultureInfo.InvariantCulture,
            $"{platformName}, {PlatformText(platform, OpenClApi.PlatformVersion)}, {Text(device, OpenClApi.DriverVersion)}");
        GpuInfo info = new(
            GpuApi.OpenCl, index, Text(device, OpenClApi.DeviceName), driver, (long)Number<ulong>(device, OpenClApi.DeviceGlobalMemSize),
            (long)Number<ulong>(device, OpenClApi.DeviceMaxMemAllocSize), (int)Number<ulong>(device, OpenClApi.DeviceLocalMemSize),
            (int)Number<uint>(device, OpenClApi.DeviceMaxComputeUnits), (int)Number<nuint>(device, OpenClApi.DeviceMaxWorkGroupSize), Architecture: 0) { SharesHostMemory = isProcessor };
        // The driver counts in bits.
        int alignment = Math.Max(MemoryArena.LeastAlignment, (int)Number<uint>(device, OpenClApi.DeviceMemBaseAddrAlign) / 8);
        return new Found(device, info, alignment, platformName == "Portable Computing Language");
    }

    private static T Number<T>(nint device, uint name) where T : unmanaged
    {
        T value = default;
        Check(OpenClApi.clGetDeviceInfo(device, name, (nuint)sizeof(T), &value, null), "ask an OpenCL device");
        return value;
    }

    private static string Text(nint device, uint name)
    {
        nuint size = 0;
        Check(OpenClApi.clGetDeviceInfo(device, name, 0, null, &size), "ask an OpenCL device");
        byte[] text = new byte[size];
        fixed (byte* p = text) Check(OpenClApi.clGetDeviceInfo(device, name, size, p, null), "ask an OpenCL device");
        return Encoding.UTF8.GetString(text).TrimEnd('\0').Trim();
    }

    private static string PlatformText(nint platform, uint name)
    {
        nuint size = 0;
        Check(OpenClApi.clGetPlatformInfo(platform, name, 0, null, &size), "ask an OpenCL platform");
        byte[] text = new byte[size];
        fixed (byte* p = text) Check(OpenClApi.clGetPlatformInfo(platform, name, size, p, null), "ask an OpenCL platform");
        return Encoding.UTF8.GetString(text).TrimEnd('\0').Trim();
    }

    private static void Check(int error, string what)
    {
        if (error != OpenClApi.Success)
            throw new GpuException(string.Create(CultureInfo.InvariantCulture, $"Could not {what}: {OpenClApi.ErrorName(error)} ({error}). Is the vendor's OpenCL driver installed whole?"));
    }
}
