namespace GemmaServer.Model;

/// <summary>A checkpoint that cannot be served. The message names the file, the tensor or field, what was expected and what was found.</summary>
public sealed class CheckpointException : Exception
{
    /// <param name="file">File or folder at fault.</param>
    /// <param name="subject">Tensor name, metadata key or part of the file; empty when the whole file is meant.</param>
    /// <param name="problem">What was expected and what was found.</param>
    /// <param name="inner">Where the problem came from, if from below.</param>
    public CheckpointException(string file, string subject, string problem, Exception? inner = null)
        : base(subject.Length == 0 ? $"{file}: {problem}" : $"{file}: {subject}: {problem}", inner)
    {
        File = file;
        Subject = subject;
    }

    /// <summary>File or folder at fault.</summary>
    public string File { get; }

    /// <summary>Tensor name, metadata key or part of the file; empty when the whole file is meant.</summary>
    public string Subject { get; }
}
