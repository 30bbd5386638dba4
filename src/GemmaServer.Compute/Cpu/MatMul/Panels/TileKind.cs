namespace GemmaServer.Compute;

/// <summary>Which kernel multiplies tiles of several input rows by two panels.</summary>
internal enum TileKind
{
    /// <summary><see cref="PanelFormat.MultiplyTile"/>.</summary>
    Portable,

    /// <summary><see cref="AssembledTiles"/>.</summary>
    Vnni,

    /// <summary><see cref="AmxTiles"/>; input codes are signed.</summary>
    Amx,
}

/// <summary>What follows from a machine and a kernel.</summary>
internal static class TileKinds
{
    /// <summary>The kernel for so many input rows on this machine.</summary>
    /// <param name="inputs">Input rows that meet the same weights.</param>
    /// <param name="hasAmx">Whether there is a kernel for AMX.</param>
    public static TileKind For(int inputs, bool hasAmx) =>
        hasAmx && inputs >= AmxTiles.FewestInputs ? TileKind.Amx : AssembledTiles.IsSupported ? TileKind.Vnni : TileKind.Portable;

    /// <summary>Rows of the biggest tile.</summary>
    public static int MostRows(this TileKind kind) => kind == TileKind.Amx ? AmxTiles.MostRows : AssembledTiles.MostRows;

    /// <summary>Tiles of equal size that one call takes, of so many that are left.</summary>
    public static int TilesInCall(this TileKind kind, int left) => kind == TileKind.Amx ? left : 1;
}
