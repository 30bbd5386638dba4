namespace GemmaServer.Compute.Ilgpu;

/// <summary>ILGPU has no such device, or cannot compile for it.</summary>
public sealed class IlgpuException(string message, Exception? inner = null) : Exception(message, inner);
