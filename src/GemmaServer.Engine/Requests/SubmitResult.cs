namespace GemmaServer.Engine;

/// <summary>The engine's answer to a new request, given at once.</summary>
public enum SubmitResult
{
    /// <summary>It is in the queue and will end with a reason.</summary>
    Accepted,

    /// <summary>Too many requests wait already; try again shortly.</summary>
    QueueFull,

    /// <summary>Too many requests of this client wait already.</summary>
    ClientQueueFull,

    /// <summary>The engine takes nothing new any more.</summary>
    ShuttingDown,
}
