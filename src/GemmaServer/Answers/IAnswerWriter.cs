namespace GemmaServer;

/// <summary>Writes a streamed answer in the shape of one API. Its choices hold what is to be written.</summary>
internal interface IAnswerWriter
{
    /// <summary>Where it goes.</summary>
    EventStream Stream { get; }

    /// <summary>What stands before the first token.</summary>
    void Open();

    /// <summary>Everything that settled since the last time.</summary>
    void Write();

    /// <summary>What stands after the last token, the end mark included.</summary>
    void Close();

    /// <summary>Breaks off a stream that was opened: nobody may take what came for a complete answer.</summary>
    void Fail(ApiError error);
}
