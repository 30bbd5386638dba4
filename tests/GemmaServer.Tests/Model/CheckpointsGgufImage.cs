using System.Buffers.Binary;
using System.Text;

namespace GemmaServer.Tests.Model;

/// <summary>
/// A GGUF file taken apart and put together again by code of the tests' own, so that files can be made which no honest
/// writer makes. Values are kept as raw bytes.
/// </summary>
internal sealed class GgufImage
{
    public uint Version { get; set; } = 3;

    /// <summary>Key, value type, raw value (an array's raw value starts with its element type and count).</summary>
    public List<(string Key, uint Type, byte[] Raw)> Metadata { get; } = [];

    /// <summary>Dimensions inner first, as in the file.</summary>
    public List<(string Name, ulong[] Dims, uint Type, byte[] Data)> Tensors { get; } = [];

    public static GgufImage Read(string path)
    {
        byte[] bytes = File.ReadAllBytes(path);
        Reader r = new(bytes) { Position = 8 };
        GgufImage image = new();
        ulong tensors = r.U64(), keys = r.U64();
        for (ulong i = 0; i < keys; i++)
        {
            string key = r.Text();
            uint type = r.U32();
            int start = r.Position;
            r.SkipValue(type);
            image.Metadata.Add((key, type, bytes[start..r.Position]));
        }
        List<(string, ulong[], uint, ulong)> infos = [];
        for (ulong i = 0; i < tensors; i++)
        {
            string name = r.Text();
            ulong[] dims = new ulong[r.U32()];
            for (int d = 0; d < dims.Length; d++) dims[d] = r.U64();
            infos.Add((name, dims, r.U32(), r.U64()));
        }
        int dataStart = (r.Position + 31) / 32 * 32;
        ulong[] starts = [.. infos.Select(t => t.Item4), (ulong)(bytes.Length - dataStart)];
        foreach ((string name, ulong[] dims, uint type, ulong offset) in infos)
        {
            // Data with the padding behind: enough here, and it leaves the block sizes to the code under test.
            ulong next = starts.Where(s => s > offset).Min();
            image.Tensors.Add((name, dims, type, bytes[(dataStart + (int)offset)..(dataStart + (int)next)]));
        }
        return image;
    }

    public GgufImage Set(string key, uint type, byte[] raw)
    {
        int at = Metadata.FindIndex(m => m.Key == key);
        if (at >= 0) Metadata[at] = (key, type, raw);
        else Metadata.Add((key, type, raw));
        return this;
    }

    public GgufImage Set(string key, string value) => Set(key, 8, Text(value));

    public GgufImage Set(string key, uint value) => Set(key, 4, BitConverter.GetBytes(value));

    public GgufImage Set(string key, int value) => Set(key, 5, BitConverter.GetBytes(value));

    public GgufImage Set(string key, float value) => Set(key, 6, BitConverter.GetBytes(value));

    public GgufImage Set(string key, int[] values) =>
        Set(key, 9, [.. BitConverter.GetBytes(5u), .. BitConverter.GetBytes((ulong)values.Length), .. values.SelectMany(BitConverter.GetBytes)]);

    public GgufImage Set(string key, bool[] values) =>
        Set(key, 9, [.. BitConverter.GetBytes(7u), .. BitConverter.GetBytes((ulong)values.Length), .. values.Select(v => v ? (byte)1 : (byte)0)]);

    public GgufImage Remove(string key)
    {
        Assert.NotEqual(0, Metadata.RemoveAll(m => m.Key == key));
        return this;
    }

    public int Find(string tensor)
    {
        int at = Tensors.FindIndex(t => t.Name == tensor);
        Assert.True(at >= 0, $"no tensor {tensor}");
        return at;
    }

    /// <summary>The file; offsets by tensor name replace those that follow from the order.</summary>
    public byte[] Write(IReadOnlyDictionary<string, ulong>? offsets = null)
    {
        MemoryStream s = new();
        void U32(uint v) => s.Write(BitConverter.GetBytes(v));
        void U64(ulong v) => s.Write(BitConverter.GetBytes(v));
        s.Write("GGUF"u8);
        U32(Version);
        U64((ulong)Tensors.Count);
        U64((ulong)Metadata.Count);
        foreach ((string key, uint type, byte[] raw) in Metadata)
        {
            s.Write(Text(key));
            U32(type);
            s.Write(raw);
        }
        ulong offset = 0;
        foreach ((string name, ulong[] dims, uint type, byte[] data) in Tensors)
        {
            s.Write(Text(name));
            U32((uint)dims.Length);
            foreach (ulong d in dims) U64(d);
            U32(type);
            U64(offsets is not null && offsets.TryGetValue(name, out ulong special) ? special : offset);
            offset += (ulong)(data.Length + 31) / 32 * 32;
        }
        foreach ((_, _, _, byte[] data) in Tensors)
        {
            while (s.Position % 32 != 0) s.WriteByte(0);
            s.Write(data);
        }
        return s.ToArray();
    }

    public static byte[] Text(string value)
    {
        byte[] utf8 = Encoding.UTF8.GetBytes(value);
        return [.. BitConverter.GetBytes((ulong)utf8.Length), .. utf8];
    }

    private sealed class Reader(byte[] bytes)
    {
        public int Position { get; set; }

        public uint U32() => BinaryPrimitives.ReadUInt32LittleEndian(bytes.AsSpan((Position += 4) - 4));

        public ulong U64() => BinaryPrimitives.ReadUInt64LittleEndian(bytes.AsSpan((Position += 8) - 8));

        public string Text()
        {
            int length = (int)U64();
            Position += length;
            return Encoding.UTF8.GetString(bytes, Position - length, length);
        }

        public void SkipValue(uint type)
        {
            if (type == 8) Text();
            else if (type != 9) Position += type switch { 0 or 1 or 7 => 1, 2 or 3 => 2, 4 or 5 or 6 => 4, _ => 8 };
            else
            {
                uint element = U32();
                for (ulong n = U64(); n > 0; n--) SkipValue(element);
            }
        }
    }
}
