using System.Buffers.Binary;
using System.Text;

namespace GemmaServer.Model;

/// <summary>GGUF's metadata value types.</summary>
internal enum GgufType : uint
{
    UInt8 = 0,
    Int8 = 1,
    UInt16 = 2,
    Int16 = 3,
    UInt32 = 4,
    Int32 = 5,
    Float32 = 6,
    Bool = 7,
    String = 8,
    Array = 9,
    UInt64 = 10,
    Int64 = 11,
    Float64 = 12,
}

/// <summary>Where a metadata value lies. Arrays were walked through once, so their count and extent can be trusted.</summary>
/// <param name="Type">The value's type.</param>
/// <param name="ElementType">Of an array; otherwise equal to <paramref name="Type"/>.</param>
/// <param name="Count">Elements of an array; otherwise 1.</param>
/// <param name="Position">Byte position in the file of the value, or of an array's first element.</param>
internal readonly record struct GgufValue(GgufType Type, GgufType ElementType, long Count, long Position);

/// <summary>Reads a GGUF header from front to back; every read is checked against the end.</summary>
internal sealed unsafe class GgufCursor
{
    /// <summary>Real headers are about 20 MB (262144 pieces, 514906 merges). The limit keeps a hostile count from walking a huge file.</summary>
    private const long MaxHeaderBytes = 512L << 20;

    /// <summary>Arrays of arrays exist in the format, though not in any known file.</summary>
    private const int MaxDepth = 4;

    private static readonly UTF8Encoding s_strictUtf8 = new(encoderShouldEmitUTF8Identifier: false, throwOnInvalidBytes: true);
    private readonly byte* _data;
    private readonly long _end;
    private readonly string _file;

    public GgufCursor(nint data, long length, string file)
    {
        _data = (byte*)data;
        _end = Math.Min(length, MaxHeaderBytes);
        _file = file;
    }

    public long Position { get; private set; }

    public uint UInt32(string what) => BinaryPrimitives.ReadUInt32LittleEndian(Take(4, what));

    public ulong UInt64(string what) => BinaryPrimitives.ReadUInt64LittleEndian(Take(8, what));

    /// <summary>A string with its length in front.</summary>
    public string Text(string what, int maxBytes)
    {
        ulong length = UInt64(what);
        if (length > (ulong)maxBytes)
            throw new CheckpointException(_file, what, $"expected a string of at most {maxBytes} bytes, found a length of {length}");
        return Decode(Take((int)length, what), _file, what);
    }

    /// <summary>Reads a value's type and steps over the value.</summary>
    public GgufValue Value(string key)
    {
        GgufType type = ReadType(key);
        if (type != GgufType.Array)
        {
            GgufValue value = new(type, type, 1, Position);
            SkipElements(type, 1, key, depth: 0);
            return value;
        }
        GgufType element = ReadType(key);
        long count = ReadCount(element, key);
        GgufValue array = new(type, element, count, Position);
        SkipElements(element, count, key, depth: 1);
        return array;
    }

    /// <summary>Bytes of a value of fixed size; 0 for strings and arrays.</summary>
    public static int SizeOf(GgufType type) => type switch
    {
        GgufType.UInt8 or GgufType.Int8 or GgufType.Bool => 1,
        GgufType.UInt16 or GgufType.Int16 => 2,
        GgufType.UInt32 or GgufType.Int32 or GgufType.Float32 => 4,
        GgufType.UInt64 or GgufType.Int64 or GgufType.Float64 => 8,
        _ => 0,
    };

    public static string Decode(ReadOnlySpan<byte> utf8, string file, string what)
    {
        try
        {
            return s_strictUtf8.GetString(utf8);
        }
        catch (DecoderFallbackException e)
        {
            throw new CheckpointException(file, what, "expected UTF-8 text, found other bytes", e);
        }
    }

    private GgufType ReadType(string key)
    {
        uint type = UInt32(key);
        return type <= (uint)GgufType.Float64
            ? (GgufType)type
            : throw new CheckpointException(_file, key, $"expected a value type 0 … 12, found {type}");
    }

    private long ReadCount(GgufType element, string key)
    {
        ulong count = UInt64(key);
        // Smallest possible element: a string is at least its length, an array its type and count.
        long smallest = element switch { GgufType.String => 8, GgufType.Array => 12, _ => SizeOf(element) };
        long room = (_end - Position) / smallest;
        if (count > (ulong)room)
            throw new CheckpointException(_file, key, $"an array of {count} elements does not fit into the rest of the header (at most {room})");
        return (long)count;
    }

    private void SkipElements(GgufType type, long count, string key, int depth)
    {
        if (depth > MaxDepth) throw new CheckpointException(_file, key, $"arrays are nested more than {MaxDepth} deep");
        int size = SizeOf(type);
        if (size > 0)
        {
            // count came from ReadCount or is 1, so the product cannot overflow.
            Skip(count * size, key);
            return;
        }
        for (long i = 0; i < count; i++)
        {
            if (type == GgufType.String)
            {
                ulong length = UInt64(key);
                if (length > (ulong)(_end - Position)) throw CutShort(key);
                Position += (long)length;
            }
            else
            {
                GgufType element = ReadType(key);
                SkipElements(element, ReadCount(element, key), key, depth + 1);
            }
        }
    }

    private void Skip(long bytes, string what)
    {
        if (bytes > _end - Position) throw CutShort(what);
        Position += bytes;
    }

    private ReadOnlySpan<byte> Take(int bytes, string what)
    {
        long start = Position;
        Skip(bytes, what);
        return new ReadOnlySpan<byte>(_data + start, bytes);
    }

    private CheckpointException CutShort(string what) =>
        new(_file, what, $"the header goes on past byte {_end}, where the file ends or no sane header reaches; it is cut short or damaged");
}
