namespace GemmaServer.Compute.Ilgpu;

/// <summary>How many lanes work on what. Kernels read it from their launch, so one body serves GPUs and ILGPU's simulator.</summary>
/// <param name="PanelLanes">Lanes of a matrix product that stand side by side, an output row each.</param>
/// <param name="MostSlices">Most parts that a product's columns are cut into; each is a row of lanes in the group.</param>
/// <param name="RowLanes">Lanes that reduce one row together; 1 gives each lane a row of its own, and no barrier is met.</param>
/// <param name="Group">Lanes of a group where each lane works alone.</param>
/// <param name="MostGroups">Most groups of a launch; lanes walk on in strides.</param>
internal sealed record LaunchShape(int PanelLanes, int MostSlices, int RowLanes, int Group, int MostGroups)
{
    /// <summary>A warp of outputs, its columns cut in up to eight; 256 lanes a row.</summary>
    public static LaunchShape Gpu { get; } = new(32, 8, 256, 128, 65535);

    /// <summary>
    /// Each lane of the simulator is a thread, and to wake them costs a small kernel more than they do: one lane, no barriers.
    /// Half the time of four lanes.
    /// </summary>
    public static LaunchShape Simulator { get; } = new(1, 1, 1, 1, 1);

    /// <summary>Groups that give each of so many items a lane.</summary>
    public int Groups(long items) => (int)Math.Clamp((items + Group - 1) / Group, 1, MostGroups);

    /// <summary>Lanes of a group in a launch of rows.</summary>
    public int RowGroup => RowLanes == 1 ? Group : RowLanes;

    /// <summary>Groups for so many rows.</summary>
    public int RowGroups(long rows) => RowLanes == 1 ? Groups(rows) : (int)Math.Clamp(rows, 1, MostGroups);
}
