using System.Buffers;
using System.Text;

namespace GemmaServer.Text;

/// <summary>
/// Byte-pair encoding of a piece of text as one word: Unicode scalars, a missing one as its bytes, then merges in order of
/// rank, the leftmost first among equals. A heap with lazy deletion keeps it at O(n log n): a whole message is one word here,
/// and a quadratic loop on a long line would let one request stall the server.
/// </summary>
/// <remarks>Source: huggingface/tokenizers, <c>models/bpe/word.rs</c>, Word::merge_all (the order); written anew.</remarks>
internal sealed class BytePairEncoder
{
    private const char SpaceMark = '▁';   // U+2581, how the vocabulary writes a space

    // One symbol of the word, in a list threaded through an array. Rank and Merged belong to the pair that starts here.
    private struct Symbol
    {
        public int Id, Previous, Next, Rank, Merged;
    }

    private const int Dead = -1;

    private readonly MergeTable _merges;
    private readonly int[] _byteIds;
    private readonly int[] _idOfUnit = new int[0x10000];              // by UTF-16 unit; −1: not a piece
    private readonly Dictionary<int, int> _idOfAstral = [];           // scalars above U+FFFF

    public BytePairEncoder(Vocabulary vocabulary)
    {
        _merges = vocabulary.Merges;
        _byteIds = vocabulary.ByteIds;
        Array.Fill(_idOfUnit, -1);
        for (int id = 0; id < vocabulary.Pieces.Length; id++)
        {
            string piece = vocabulary.Pieces[id];
            if (piece.Length is < 1 or > 2 || vocabulary.IsControl(id)) continue;
            if (Rune.DecodeFromUtf16(piece, out Rune rune, out int units) != OperationStatus.Done || units != piece.Length) continue;
            if (rune.IsBmp) _idOfUnit[rune.Value] = id;
            else _idOfAstral[rune.Value] = id;
        }
        _idOfUnit[' '] = _idOfUnit[SpaceMark];
    }

    /// <summary>Appends the ids of <paramref name="text"/>; spaces count as the space mark, lone surrogates as U+FFFD.</summary>
    public void Encode(ReadOnlySpan<char> text, List<int> output)
    {
        if (text.IsEmpty) return;
        int count = CountSymbols(text);
        Symbol[] rented = ArrayPool<Symbol>.Shared.Rent(count);
        // A pair per border at the start, and each merge takes one entry out for the two it puts in.
        ulong[] heapMemory = ArrayPool<ulong>.Shared.Rent(2 * count);
        try
        {
            Span<Symbol> symbols = rented.AsSpan(0, count);
            Spell(text, symbols);
            Merge(symbols, new MinHeap(heapMemory));
            for (int i = 0; i >= 0; i = symbols[i].Next) output.Add(symbols[i].Id);
        }
        finally
        {
            ArrayPool<Symbol>.Shared.Return(rented);
            ArrayPool<ulong>.Shared.Return(heapMemory);
        }
    }

    private int CountSymbols(ReadOnlySpan<char> text)
    {
        int count = 0;
        while (!text.IsEmpty)
        {
            int id = Next(ref text, out Rune rune);
            count = checked(count + (id >= 0 ? 1 : rune.Utf8SequenceLength));
        }
        return count;
    }

    private void Spell(ReadOnlySpan<char> text, Span<Symbol> symbols)
    {
        Span<byte> utf8 = stackalloc byte[4];
        int n = 0;
        while (!text.IsEmpty)
        {
            int id = Next(ref text, out Rune rune);
            if (id >= 0) symbols[n++].Id = id;
            else
            {
                foreach (byte b in utf8[..rune.EncodeToUtf8(utf8)]) symbols[n++].Id = _byteIds[b];
            }
        }
    }

    // Takes one scalar off the text; its id, or −1 and the scalar to be spelled in bytes.
    private int Next(ref ReadOnlySpan<char> text, out Rune rune)
    {
        int id = _idOfUnit[text[0]];
        if (id >= 0)
        {
            rune = default;
            text = text[1..];
            return id;
        }
        Rune.DecodeFromUtf16(text, out rune, out int units);   // U+FFFD for a lone surrogate
        text = text[units..];
        if (rune.Value == ' ') rune = new Rune(SpaceMark);
        if (rune.IsBmp) return _idOfUnit[rune.Value];
        return _idOfAstral.TryGetValue(rune.Value, out id) ? id : -1;
    }

    private void Merge(Span<Symbol> symbols, MinHeap heap)
    {
        for (int i = 0; i < symbols.Length; i++)
        {
            symbols[i].Previous = i - 1;
            symbols[i].Next = i + 1 < symbols.Length ? i + 1 : -1;
            if (RankPair(symbols, i)) heap.Append(Key(symbols[i].Rank, i));
        }
        heap.Heapify();
        while (heap.Count > 0)
        {
            ulong key = heap.Pop();
            int at = (int)(uint)key;
            ref Symbol left = ref symbols[at];
            if (left.Rank != (int)(key >> 32)) continue;   // the pair changed, or the symbol is gone

            ref Symbol right = ref symbols[left.Next];
            left.Id = left.Merged;
            left.Next = right.Next;
            right.Rank = Dead;
            if (left.Next >= 0) symbols[left.Next].Previous = at;
            if (RankPair(symbols, at)) heap.Push(Key(left.Rank, at));
            if (left.Previous >= 0 && RankPair(symbols, left.Previous)) heap.Push(Key(symbols[left.Previous].Rank, left.Previous));
        }
    }

    // Looks up the pair that starts at a symbol; false when it does not merge.
    private bool RankPair(Span<Symbol> symbols, int at)
    {
        ref Symbol left = ref symbols[at];
        left.Rank = left.Next < 0 ? MergeTable.NoRank : _merges.Rank(left.Id, symbols[left.Next].Id, out left.Merged);
        return left.Rank != MergeTable.NoRank;
    }

    // Orders by rank, then from left to right.
    private static ulong Key(int rank, int at) => ((ulong)(uint)rank << 32) | (uint)at;

    /// <summary>A binary heap over borrowed memory, smallest key on top.</summary>
    private ref struct MinHeap(Span<ulong> keys)
    {
        private readonly Span<ulong> _keys = keys;

        public int Count { get; private set; }

        /// <summary>Adds without order; <see cref="Heapify"/> must follow.</summary>
        public void Append(ulong key) => _keys[Count++] = key;

        public readonly void Heapify()
        {
            for (int i = Count / 2 - 1; i >= 0; i--) Sink(i, _keys[i]);
        }

        public void Push(ulong key)
        {
            int hole = Count++;
            while (hole > 0)
            {
                int parent = (hole - 1) / 2;
                if (_keys[parent] <= key) break;
                _keys[hole] = _keys[parent];
                hole = parent;
            }
            _keys[hole] = key;
        }

        public ulong Pop()
        {
            ulong top = _keys[0];
            ulong last = _keys[--Count];
            if (Count > 0) Sink(0, last);
            return top;
        }

        private readonly void Sink(int hole, ulong key)
        {
            while (true)
            {
                int child = 2 * hole + 1;
                if (child >= Count) break;
                if (child + 1 < Count && _keys[child + 1] < _keys[child]) child++;
                if (_keys[child] >= key) break;
                _keys[hole] = _keys[child];
                hole = child;
            }
            _keys[hole] = key;
        }
    }
}
