namespace GemmaServer.Compute;

/// <summary>Which kernel multiplies tiles of several input rows by two panels.</summary>
internal enum TileKind
{
    /// <summary><see cref="TileKernel"/>.</summary>
    Portable,

    /// <summary><see cref="AssembledTiles"/>.</summary>
    Vnni,

    /// <summary><see cref="AmxTiles"/>; input codes are signed.</summary>
    Amx,
}

/// <summary>Chooses and calls kernels.</summary>
internal static unsafe class TileKinds
{
    /// <summary>The kernel for so many input rows on this machine.</summary>
    /// <param name="inputs">Input rows that meet the same weights.</param>
    /// <param name="allowAmx">Whether AMX may be used where the machine has it.</param>
    public static TileKind For(int inputs, bool allowAmx) =>
        allowAmx && inputs >= AmxTiles.FewestInputs && AmxSupport.IsUsable ? TileKind.Amx : AssembledTiles.IsSupported ? TileKind.Vnni : TileKind.Portable;

    /// <summary>Rows of the biggest tile.</summary>
    public static int MostRows(this TileKind kind) => kind == TileKind.Amx ? AmxTiles.MostRows : AssembledTiles.MostRows;

    /// <summary>Tiles of equal size that one call takes, of so many that are left.</summary>
    public static int TilesInCall(this TileKind kind, int left) => kind == TileKind.Amx ? left : 1;

    /// <summary>Adds <c>tile · panelᵀ</c> to the sums.</summary>
    public static void Run(this TileKind kind, TileArguments* arguments, int tileRows, PanelFormat format)
    {
        if (kind == TileKind.Amx)
        {
            AmxTiles.For(format, tileRows)(arguments);
            return;
        }
        delegate* unmanaged[SuppressGCTransition]<TileArguments*, void> assembled = kind == TileKind.Vnni ? AssembledTiles.For(format, tileRows) : null;
        if (assembled != null) assembled(arguments);
        else TileKernel.Run(in *arguments, tileRows, format);
    }
}
