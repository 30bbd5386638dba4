using System.Buffers.Binary;

namespace GemmaServer.Model;

/// <summary>The metadata of one GGUF file, decoded on demand: most files hold large arrays that nobody asks for.</summary>
internal sealed unsafe class GgufMetadata(string file, nint data, Dictionary<string, GgufValue> values)
{
    public string File => file;

    public bool Has(string key) => values.ContainsKey(key);

    public bool IsArray(string key) => values.TryGetValue(key, out GgufValue v) && v.Type == GgufType.Array;

    /// <summary>An integer of any width within the bounds; null when the key is absent.</summary>
    public long? Integer(string key, long min, long max)
    {
        if (!values.TryGetValue(key, out GgufValue v)) return null;
        return IsInteger(v.Type)
            ? InBounds(key, ReadInteger(v.Type, v.Position), min, max)
            : throw Wrong(key, "an integer", v);
    }

    /// <summary>An int within the bounds; null when the key is absent.</summary>
    public int? Int(string key, int min, int max) => (int?)Integer(key, min, max);

    /// <summary>A finite number; null when the key is absent.</summary>
    public float? Real(string key)
    {
        if (!values.TryGetValue(key, out GgufValue v)) return null;
        double d = v.Type switch
        {
            GgufType.Float32 => BinaryPrimitives.ReadSingleLittleEndian(Bytes(v.Position, 4)),
            GgufType.Float64 => BinaryPrimitives.ReadDoubleLittleEndian(Bytes(v.Position, 8)),
            _ when IsInteger(v.Type) => ReadInteger(v.Type, v.Position),
            _ => throw Wrong(key, "a number", v),
        };
        return float.IsFinite((float)d) ? (float)d : throw new CheckpointException(file, key, $"expected a finite number, found {d}");
    }

    /// <summary>A string; null when the key is absent.</summary>
    public string? Text(string key)
    {
        if (!values.TryGetValue(key, out GgufValue v)) return null;
        if (v.Type != GgufType.String) throw Wrong(key, "a string", v);
        return ReadString(key, v.Position, out _);
    }

    /// <summary>A truth value; null when the key is absent.</summary>
    public bool? Flag(string key)
    {
        if (!values.TryGetValue(key, out GgufValue v)) return null;
        return v.Type == GgufType.Bool ? Bytes(v.Position, 1)[0] != 0 : throw Wrong(key, "a bool", v);
    }

    /// <summary>An array of integers or bools within the bounds; null when the key is absent.</summary>
    public int[]? Ints(string key, int min, int max)
    {
        if (!values.TryGetValue(key, out GgufValue v)) return null;
        if (v.Type != GgufType.Array || !(IsInteger(v.ElementType) || v.ElementType == GgufType.Bool))
            throw Wrong(key, "an array of integers", v);
        int[] result = new int[CheckedCount(key, v)];
        int size = GgufCursor.SizeOf(v.ElementType);
        for (int i = 0; i < result.Length; i++)
            result[i] = (int)InBounds(key, ReadInteger(v.ElementType, v.Position + (long)i * size), min, max);
        return result;
    }

    /// <summary>An array of strings; null when the key is absent.</summary>
    public string[]? Texts(string key)
    {
        if (!values.TryGetValue(key, out GgufValue v)) return null;
        if (v.Type != GgufType.Array || v.ElementType != GgufType.String) throw Wrong(key, "an array of strings", v);
        string[] result = new string[CheckedCount(key, v)];
        long position = v.Position;
        for (int i = 0; i < result.Length; i++) result[i] = ReadString(key, position, out position);
        return result;
    }

    /// <summary>One value per layer: a scalar stands for all, an array must have one element per layer; null when the key is absent.</summary>
    public int[]? PerLayer(string key, int layers, int min, int max)
    {
        if (!Has(key)) return null;
        if (!IsArray(key))
        {
            int[] same = new int[layers];
            Array.Fill(same, Int(key, min, max)!.Value);
            return same;
        }
        int[] list = Ints(key, min, max)!;
        return list.Length == layers
            ? list
            : throw new CheckpointException(file, key, $"expected {layers} elements, one per layer; found {list.Length}");
    }

    private int CheckedCount(string key, GgufValue v) =>
        v.Count <= 1 << 24 ? (int)v.Count : throw new CheckpointException(file, key, $"expected at most {1 << 24} elements, found {v.Count}");

    private long InBounds(string key, long value, long min, long max) =>
        value >= min && value <= max ? value : throw new CheckpointException(file, key, $"expected {min} … {max}, found {value}");

    private static bool IsInteger(GgufType type) => type is GgufType.UInt8 or GgufType.Int8 or GgufType.UInt16 or GgufType.Int16
        or GgufType.UInt32 or GgufType.Int32 or GgufType.UInt64 or GgufType.Int64;

    private long ReadInteger(GgufType type, long position) => type switch
    {
        GgufType.UInt8 or GgufType.Bool => Bytes(position, 1)[0],
        GgufType.Int8 => (sbyte)Bytes(position, 1)[0],
        GgufType.UInt16 => BinaryPrimitives.ReadUInt16LittleEndian(Bytes(position, 2)),
        GgufType.Int16 => BinaryPrimitives.ReadInt16LittleEndian(Bytes(position, 2)),
        GgufType.UInt32 => BinaryPrimitives.ReadUInt32LittleEndian(Bytes(position, 4)),
        GgufType.Int32 => BinaryPrimitives.ReadInt32LittleEndian(Bytes(position, 4)),
        GgufType.Int64 => BinaryPrimitives.ReadInt64LittleEndian(Bytes(position, 8)),
        // Larger than long.MaxValue is out of every bound we have.
        GgufType.UInt64 => (long)Math.Min(BinaryPrimitives.ReadUInt64LittleEndian(Bytes(position, 8)), long.MaxValue),
        _ => throw new ArgumentOutOfRangeException(nameof(type)),
    };

    private string ReadString(string key, long position, out long next)
    {
        ulong length = BinaryPrimitives.ReadUInt64LittleEndian(Bytes(position, 8));
        if (length > 1 << 26) throw new CheckpointException(file, key, $"expected a string of at most {1 << 26} bytes, found {length}");
        next = position + 8 + (long)length;
        return GgufCursor.Decode(Bytes(position + 8, (int)length), file, key);
    }

    /// <summary>The cursor walked over these bytes, so they are inside the file.</summary>
    private ReadOnlySpan<byte> Bytes(long position, int count) => new((byte*)data + position, count);

    private CheckpointException Wrong(string key, string expected, GgufValue found) =>
        new(file, key, $"expected {expected}, found " + (found.Type == GgufType.Array ? $"an array of {found.ElementType}" : found.Type.ToString()));
}
