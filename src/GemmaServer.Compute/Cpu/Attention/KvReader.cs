namespace GemmaServer.Compute;

/// <summary>Reads a key/value head of one layer from a sequence's pages.</summary>
internal readonly unsafe ref struct KvReader<TKv> where TKv : struct, IKvFormat
{
    private readonly CpuKvCache _cache;
    private readonly ReadOnlySpan<int> _pages;
    private readonly int _group, _index, _tokensPerPage, _dim, _width, _rowBytes, _keyDim;
    private readonly long _keys, _values;

    public KvReader(AttentionPlan plan, CpuKvCache cache, BlockTable blocks, int kvHead)
    {
        _pages = blocks.Pages(plan.KvGroup);
        (_cache, _group, _index) = (cache, plan.KvGroup, plan.KvIndex);
        _tokensPerPage = cache.Plan.Groups[plan.KvGroup].TokensPerPage;
        (_dim, _width, _keyDim) = (plan.HeadDim, AttentionTiles.Width(plan.HeadDim), plan.IsCompact ? plan.KeyDim : 0);
        _rowBytes = TKv.RowBytes(plan.IsCompact ? new CompactRow(plan.HeadDim, plan.KeyDim).Length : plan.HeadDim);
        long headBytes = (long)_tokensPerPage * _rowBytes;
        _keys = kvHead * headBytes;
        // A compact row is key and value at once.
        _values = plan.IsCompact ? _keys : _keys + plan.KvHeadCount * headBytes;
    }

    /// <summary>Finds, and where needed decodes, the keys of consecutive positions.</summary>
    /// <param name="position">First position.</param>
    /// <param name="count">Positions.</param>
    /// <param name="decoded">Where decoded rows go, <c>[count][stride]</c>.</param>
    /// <param name="rows">A pointer for each, to as many floats as the kernels take.</param>
    public void LoadKeys(int position, int count, float* decoded, float** rows) => Load(_keys, 0, position, count, decoded, rows);

    /// <summary>As <see cref="LoadKeys"/>.</summary>
    public void LoadValues(int position, int count, float* decoded, float** rows) => Load(_values, _keyDim, position, count, decoded, rows);

    /// <summary>Where in the page what is read next lies, for kernels to ask for; null beyond its end.</summary>
    /// <param name="values">Values or keys.</param>
    /// <param name="position">First position read next.</param>
    /// <param name="count">Positions read next.</param>
    /// <param name="offset">Bytes into it.</param>
    public byte* Ahead(bool values, int position, int count, int offset)
    {
        int row = offset / _rowBytes;
        return row >= count ? null : Address(values ? _values : _keys, position + row) + (offset - row * _rowBytes);
    }

    private byte* Address(long head, int position) =>
        _cache.Layer(_pages[position / _tokensPerPage], _group, _index) + head + (long)(position % _tokensPerPage) * _rowBytes;

    private void Load(long head, int offset, int position, int count, float* decoded, float** rows)
    {
        int stride = AttentionTiles.Stride(_dim);
        for (int i = 0; i < count;)
        {
            int run = Math.Min(count - i, _tokensPerPage - position % _tokensPerPage);
            byte* source = Address(head, position);
            position += run;
            for (; run > 0; run--, i++, source += _rowBytes, decoded += stride)
            {
                rows[i] = TKv.Load(source, offset, _dim, decoded);
                if (_width > _dim) rows[i] = Pad(rows[i], decoded);
            }
        }
    }

    /// <summary>A row whose length the kernels cannot take, with zeros behind it.</summary>
    private float* Pad(float* row, float* to)
    {
        if (row != to) new ReadOnlySpan<float>(row, _dim).CopyTo(new(to, _dim));
        new Span<float>(to + _dim, _width - _dim).Clear();
        return to;
    }
}
