import { z } from 'zod'

/** What errors are answered with (`failures.ts`). */
export const httpErrorOut = z
  .object({
    code: z.string(),
    detail: z.string(),
    home: z.string().optional().meta({ description: 'With 421: the URL of the region that keeps the application' }),
  })
  .meta({ id: 'HttpErrorOut' })

const validationErrorItem = z
  .object({
    loc: z.array(z.string()).meta({ description: 'Where: `body`, `query` or `header`, then the field' }),
    msg: z.string(),
    type: z.string().meta({ description: '`value_error.jsondecode` for a wrong shape, `value_error` where a rule refuses the value' }),
  })
  .meta({ id: 'ValidationErrorItem' })
export const validationErrorOut = z.object({ detail: z.array(validationErrorItem) }).meta({ id: 'HTTPValidationError' })

export const internalErrorOut = z.object({}).meta({ id: 'InternalErrorOut' })
