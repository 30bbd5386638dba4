namespace GemmaServer.Compute.Ilgpu;

/// <summary>Rows of tables, by token: from weights on the device, or decoded on the host where a table stays in its file.</summary>
internal sealed class IlgpuGather(IlgpuRuntime runtime, IlgpuStep step, IlgpuMatMul matMul, IlgpuRows rows) : IDisposable
{
    private readonly Dictionary<int, IlgpuTensor> _rows = [];     // by width
    private float[] _decoded = [];

    /// <summary>x = table[token] · scale.</summary>
    public void Embed(IlgpuMatrix table, float scale, IlgpuTensor x)
    {
        if (table.Mapped is null) matMul.Gather(step, table, scale, x);
        else rows.Copy(step.RowCount, Rows(table, x.Rows), 0, scale, x, 0);
    }

    /// <summary>y = [table[token] · scale | x].</summary>
    public void EmbedBeside(IlgpuMatrix table, float scale, IlgpuTensor x, IlgpuTensor y)
    {
        rows.Copy(step.RowCount, Rows(table, x.Rows), 0, scale, y, 0);
        rows.Copy(step.RowCount, x, 0, 1f, y, table.Columns);
    }

    /// <summary>The tokens' rows.</summary>
    /// <param name="table">On the device or mapped.</param>
    /// <param name="room">Rows that may ever be asked for.</param>
    public IlgpuTensor Rows(IlgpuMatrix table, int room)
    {
        if (!_rows.TryGetValue(table.Columns, out IlgpuTensor? tensor) || tensor.Rows < room)
        {
            tensor?.Dispose();
            _rows[table.Columns] = tensor = new IlgpuTensor(runtime, room, table.Columns);
        }
        if (table.Mapped is null)
        {
            matMul.Gather(step, table, 1f, tensor);
            return tensor;
        }
        if (_decoded.Length < room * tensor.Stride) _decoded = new float[room * tensor.Stride];
        for (int row = 0; row < step.RowCount; row++) table.Mapped.DecodeRow(step.Host.Tokens[row], _decoded.AsSpan(row * tensor.Stride, table.Columns));
        // Whole rows in one copy; a wider table may have been decoded here, so what is behind a row's end must be zero again.
        if (tensor.Stride > table.Columns)
            for (int row = 0; row < step.RowCount; row++) _decoded.AsSpan(row * tensor.Stride + table.Columns, tensor.Stride - table.Columns).Clear();
        tensor.Upload(_decoded, step.RowCount);
        return tensor;
    }

    public void Dispose()
    {
        foreach (IlgpuTensor tensor in _rows.Values) tensor.Dispose();
    }
}
