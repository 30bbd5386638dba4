namespace GemmaServer.Compute;

/// <summary>A driver refused something; the message says what, and what to do about it.</summary>
public sealed class GpuException(string message, Exception? inner = null) : Exception(message, inner);
