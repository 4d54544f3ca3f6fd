import { DefaultFailureConverter, type PayloadConverter, type ProtoFailure } from '@temporalio/common'

/** Failures in history carry no stack traces: they name files, and the log has them. */
class PlainFailureConverter extends DefaultFailureConverter {
  override errorToFailure(error: unknown, payloadConverter: PayloadConverter): ProtoFailure {
    const failure = super.errorToFailure(error, payloadConverter)
    for (let one: ProtoFailure | null | undefined = failure; one; one = one.cause) one.stackTrace = ''
    return failure
  }
}

export const failureConverter = new PlainFailureConverter()
