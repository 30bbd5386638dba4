using System.Buffers.Binary;
using System.Runtime.InteropServices;
using GemmaServer.Model;

namespace GemmaServer.Tests.Model;

/// <summary>
/// Damaged files end in a <see cref="CheckpointException"/> or open; never in another exception, a crash or a hang. The files lie
/// against an unreadable page where the system has one to give, so that reading one byte too far ends the test run.
/// </summary>
public sealed partial class CheckpointsDamageTests
{
    /// <summary>Seconds for one damaged file; a sound one takes a few milliseconds, a busy machine some hundred.</summary>
    private const int TimeBound = 20;

    private static string Model => GoldenModels.Names.Contains("tiny-e") ? "tiny-e" : GoldenModels.Names[0];

    [Fact]
    public void A_gguf_cut_short_anywhere_is_refused()
    {
        byte[] whole = File.ReadAllBytes(GoldenModels.SmallestGguf(Model));
        using GuardedMemory memory = new(whole.Length);
        int header = HeaderBytes(whole);
        List<int> lengths = [.. Enumerable.Range(0, 256)];
        for (int n = 256; n < header; n += 37) lengths.Add(n);
        for (int n = header; n < whole.Length; n += 4099) lengths.Add(n);
        lengths.Add(whole.Length - 33); // The last tensor may be followed by up to 31 bytes of padding.
        foreach (int length in lengths)
        {
            nint start = memory.Put(whole.AsSpan(0, length));
            Assert.False(Opens(() => Checkpoint.OpenGguf(start, length, "cut.gguf", null), $"cut to {length}"), $"cut to {length} bytes it opened");
        }
    }

    [Fact]
    public void A_gguf_with_a_changed_header_is_refused_or_opens()
    {
        byte[] whole = File.ReadAllBytes(GoldenModels.SmallestGguf(Model));
        int header = HeaderBytes(whole);
        using GuardedMemory memory = new(whole.Length);
        byte[] damaged = [.. whole];
        int refused = 0, opened = 0;
        for (int seed = 0; seed < 3000; seed++)
        {
            Mutate(damaged.AsSpan(0, header), seed);
            nint start = memory.Put(damaged);
            if (Opens(() => Checkpoint.OpenGguf(start, damaged.Length, "damaged.gguf", null), $"seed {seed}")) opened++;
            else refused++;
            whole.AsSpan(0, header).CopyTo(damaged);
        }
        // Both must happen, or the changes were not where they matter.
        Assert.True(refused > 500, $"refused {refused}, opened {opened}");
        Assert.True(opened > 50, $"refused {refused}, opened {opened}");
    }

    [Fact]
    public void A_safetensors_file_cut_short_anywhere_is_refused()
    {
        using TempFolder folder = new();
        HfImage.Read(GoldenModels.Folder(Model)).WriteTo(folder);
        string path = Path.Combine(folder.Path, "model.safetensors");
        byte[] whole = File.ReadAllBytes(path);
        int header = 8 + (int)BinaryPrimitives.ReadUInt64LittleEndian(whole);
        List<int> lengths = [.. Enumerable.Range(0, 32), header - 1, header, header + 1, whole.Length - 1];
        for (int n = 32; n < header; n += 331) lengths.Add(n);
        for (int n = header; n < whole.Length; n += 90_001) lengths.Add(n);
        foreach (int length in lengths)
        {
            File.WriteAllBytes(path, whole.AsSpan(0, length));
            Assert.False(Opens(() => Checkpoint.Open(folder.Path), $"cut to {length}"), $"cut to {length} bytes it opened");
        }
    }

    [Fact]
    public void A_safetensors_file_with_a_changed_header_is_refused_or_opens()
    {
        using TempFolder folder = new();
        HfImage.Read(GoldenModels.Folder(Model)).WriteTo(folder);
        (int refused, int opened) = MutateOnDisk(folder, "model.safetensors", 2000, bytes => 8 + (int)BinaryPrimitives.ReadUInt64LittleEndian(bytes));
        Assert.True(refused > 500 && opened > 10, $"refused {refused}, opened {opened}");
    }

    [Theory]
    [InlineData("config.json")]
    [InlineData("generation_config.json")]
    public void A_changed_json_file_is_refused_or_opens(string file)
    {
        using TempFolder folder = new();
        HfImage.Read(GoldenModels.Folder(Model)).WriteTo(folder);
        (int refused, int opened) = MutateOnDisk(folder, file, 700, bytes => bytes.Length);
        Assert.True(refused > 100 && opened > 10, $"refused {refused}, opened {opened}");
    }

    [Theory]
    [InlineData(0x7FFFFFFFFFFFFFFFul)]
    [InlineData(0x8000000000000000ul)]
    [InlineData(0xFFFFFFFFFFFFFFFFul)]
    [InlineData(100_000_001ul)]
    [InlineData(0ul)]
    [InlineData(1ul)]
    public void A_safetensors_header_length_that_lies_is_refused(ulong length)
    {
        using TempFolder folder = new();
        HfImage.Read(GoldenModels.Folder(Model)).WriteTo(folder);
        string path = Path.Combine(folder.Path, "model.safetensors");
        using (FileStream stream = File.OpenWrite(path)) stream.Write(BitConverter.GetBytes(length));
        Assert.False(Opens(() => Checkpoint.Open(folder.Path), "length"));
    }

    [Theory]
    [InlineData("""{"dtype":"BF16","shape":[4611686018427387904,4],"data_offsets":[0,0]}""")]
    [InlineData("""{"dtype":"BF16","shape":[4294967296,4294967296],"data_offsets":[0,0]}""")]
    [InlineData("""{"dtype":"BF16","shape":[-1,-2],"data_offsets":[0,4]}""")]
    [InlineData("""{"dtype":"BF16","shape":[1,1,1,1,1,1,1,1,1],"data_offsets":[0,2]}""")]
    [InlineData("""{"dtype":"BF16","shape":[0],"data_offsets":[0,0]}""")]
    [InlineData("""{"dtype":"BF16","shape":[2],"data_offsets":[9223372036854775804,9223372036854775807]}""")]
    [InlineData("""{"dtype":"BF16","shape":[2],"data_offsets":[8,4]}""")]
    [InlineData("""{"dtype":"BF16","shape":[2],"data_offsets":[0]}""")]
    [InlineData("""{"dtype":"BF16","shape":[2],"data_offsets":[0,18446744073709551615]}""")]
    [InlineData("""{"dtype":"BF16","shape":[1.5],"data_offsets":[0,3]}""")]
    [InlineData("""{"dtype":"BF16","shape":"[2]","data_offsets":[0,4]}""")]
    [InlineData("""{"dtype":"\ud800","shape":[2],"data_offsets":[0,4]}""")]
    [InlineData("""{"dtype":null}""")]
    [InlineData("""[]""")]
    [InlineData("""null""")]
    public void A_safetensors_entry_that_lies_is_refused(string entry)
    {
        byte[] json = System.Text.Encoding.UTF8.GetBytes($$"""{"model.norm.weight":{{entry}}}""");
        using TempFolder folder = new();
        HfImage.Read(GoldenModels.Folder(Model)).WriteTo(folder, tensors: false);
        folder.Write("model.safetensors", [.. BitConverter.GetBytes((ulong)json.Length), .. json, .. new byte[64]]);
        Assert.False(Opens(() => Checkpoint.Open(folder.Path), entry));
    }

    [Theory]
    [InlineData(1L << 60, 32)]
    [InlineData(1L << 33, 1L << 31)]
    [InlineData(long.MaxValue, 2)]
    [InlineData(-1, -2)]
    [InlineData(0, 4)]
    [InlineData(1, 1L << 31)]
    public void A_shape_whose_product_cannot_be_has_no_extent(long rows, long columns) =>
        Assert.Null(TensorExtent.Bytes([rows, columns], GemmaServer.Compute.TensorType.F32));

    /// <summary>True when it opens, false when it is refused; anything else fails the test.</summary>
    private static unsafe bool Opens(Func<Checkpoint> open, string what)
    {
        long start = Environment.TickCount64;
        try
        {
            using Checkpoint checkpoint = open();
            // What opened must be readable to the last byte.
            long sum = 0;
            foreach (GemmaServer.Compute.TensorSource t in checkpoint.Tensors.Values) sum += *(byte*)t.Data + *(byte*)(t.Data + (nint)t.Bytes - 1);
            return sum >= 0;
        }
        catch (CheckpointException)
        {
            return false;
        }
        catch (Exception e)
        {
            throw new Xunit.Sdk.XunitException($"{what}: {e}");
        }
        finally
        {
            Assert.True(Environment.TickCount64 - start < TimeBound * 1000, $"{what}: took longer than {TimeBound} s");
        }
    }

    private static (int Refused, int Opened) MutateOnDisk(TempFolder folder, string file, int count, Func<byte[], int> region)
    {
        string path = Path.Combine(folder.Path, file);
        byte[] whole = File.ReadAllBytes(path);
        byte[] head = whole[..region(whole)];
        int refused = 0, opened = 0;
        for (int seed = 0; seed < count; seed++)
        {
            byte[] damaged = [.. head];
            Mutate(damaged, seed);
            using (FileStream stream = new(path, FileMode.Open, FileAccess.Write)) stream.Write(damaged);
            if (Opens(() => Checkpoint.Open(folder.Path), $"{file}, seed {seed}")) opened++;
            else refused++;
        }
        return (refused, opened);
    }

    /// <summary>One to four changes: a bit, a byte, an eight-byte number, or a stretch copied over another.</summary>
    private static void Mutate(Span<byte> bytes, int seed)
    {
        Random random = new(seed);
        ulong[] numbers = [0, 1, 0x7FFFFFFF, 0xFFFFFFFF, 1ul << 32, 1ul << 62, 1ul << 63, ulong.MaxValue, (ulong)random.NextInt64()];
        for (int n = random.Next(1, 5); n > 0; n--)
        {
            int at = random.Next(random.Next(4) == 0 ? Math.Min(bytes.Length, 64) : bytes.Length);
            switch (random.Next(5))
            {
                case 0: bytes[at] ^= (byte)(1 << random.Next(8)); break;
                case 1: bytes[at] = (byte)random.Next(256); break;
                case 2: bytes[at] = (byte)"0123456789,:{}[]\"\\"[random.Next(18)]; break;
                case 3:
                    if (at + 8 <= bytes.Length) BinaryPrimitives.WriteUInt64LittleEndian(bytes[at..], numbers[random.Next(numbers.Length)]);
                    break;
                default:
                    int length = Math.Min(random.Next(1, 64), bytes.Length - at);
                    bytes.Slice(random.Next(bytes.Length - length + 1), length).ToArray().CopyTo(bytes[at..]);
                    break;
            }
        }
    }

    /// <summary>Where the tensor data begin: the offset of the smallest tensor address.</summary>
    private static unsafe int HeaderBytes(byte[] file)
    {
        fixed (byte* data = file)
        {
            using Checkpoint checkpoint = Checkpoint.OpenGguf((nint)data, file.Length, "whole", null);
            nint start = (nint)data;
            return (int)(checkpoint.StoredTensors.Min(t => t.Data) - start);
        }
    }

    /// <summary>Memory whose last byte is followed by a page that must not be read (on Linux; plain memory elsewhere).</summary>
    private sealed unsafe partial class GuardedMemory : IDisposable
    {
        private const int Page = 65_536; // A multiple of every page size in use.
        private readonly nint _base;
        private readonly long _usable;

        public GuardedMemory(int size)
        {
            _usable = ((long)size + Page - 1) / Page * Page;
            if (!OperatingSystem.IsLinux())
            {
                _base = (nint)NativeMemory.Alloc((nuint)_usable);
                return;
            }
            _base = Map(0, (nuint)(_usable + Page), protection: 3, flags: 0x22, file: -1, offset: 0);
            Assert.NotEqual(-1, _base);
            Assert.Equal(0, Protect(_base + (nint)_usable, Page, protection: 0));
        }

        /// <summary>Copies the bytes so that they end where the memory ends.</summary>
        public nint Put(ReadOnlySpan<byte> bytes)
        {
            nint start = _base + (nint)(_usable - bytes.Length);
            bytes.CopyTo(new Span<byte>((void*)start, bytes.Length));
            return start;
        }

        public void Dispose()
        {
            if (OperatingSystem.IsLinux()) Unmap(_base, (nuint)(_usable + Page));
            else NativeMemory.Free((void*)_base);
        }

        [LibraryImport("libc", EntryPoint = "mmap")]
        private static partial nint Map(nint address, nuint length, int protection, int flags, int file, nint offset);

        [LibraryImport("libc", EntryPoint = "mprotect")]
        private static partial int Protect(nint address, nuint length, int protection);

        [LibraryImport("libc", EntryPoint = "munmap")]
        private static partial int Unmap(nint address, nuint length);
    }
}
